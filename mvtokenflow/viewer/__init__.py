"""An interactive page of moving Gaussians: the format of its data, and the page that draws them by WebGL2."""
