"""Score distillation: its losses, schedules of noise levels, and which picture conditions a view."""
