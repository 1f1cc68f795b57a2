"""Expected sha256 of every benchmark scene's content: decoded pixels, and geometry as stored.

Pixels are hashed, not PNG bytes, which depend on zlib. The generator uses IEEE basic operations only (see
`kernels`), so that every conforming machine should give equal bits. A change of the generator changes the
table, and with it the name of the cache folder. `python -m mvtokenflow.datasets.toy4d` prints the tables anew.
"""

EXPECTED: dict[str, dict[str, str]] = {
    "quadruped-01": {
        "pixels": "3307d3b8aa89bd188754d536762e6a32ab13458a2941d68ab903e482c1d6e19f",
        "truth": "eae74f1febbb520f154026f52d581c1c92406e9ee10fef4085095d56604079a1",
    },
    "quadruped-02": {
        "pixels": "b88063b530d264161f2e6eba1498f2207a5e64481c7003f4d83040a577036677",
        "truth": "d73b238df1043506b44a875b395bac48cbe322350f576a86362804791fe939b7",
    },
    "quadruped-03": {
        "pixels": "7756c55572fac62daefc8877abf038c52d166221a94d77bb7c86f3f7df76e4bf",
        "truth": "d0cdd3b498bafbadcad08b40077985f843f45aecd56498d466a9e0e3f715deaf",
    },
    "bird-01": {
        "pixels": "0bc361ac1f65e6a0e71bf20396c18d84bbdefb834b18d9b8727e7c62addfabaf",
        "truth": "d36650ffbb4c9022bc7cec0d3d3c34e3f866ba83297357fb445ac15e75b5f5c2",
    },
    "bird-02": {
        "pixels": "48777a46c88b8fcbe0185c9ebd199116cd96964437594bb41e8b42e105ffb38d",
        "truth": "c77d60717c051d2dd27d660cc562145e095ea682655d9349a0d6d1036657e452",
    },
    "bird-03": {
        "pixels": "f2a81a1ee6f54b8eeaebc016deb07965c2749dff1eb7f210349738276b8d92d8",
        "truth": "5587a81ef5cd2dd72776a277202bb86dbf550ea7dbdda71a36d3cc9a90b379ea",
    },
    "fish-01": {
        "pixels": "d9d59f4799c7c42e35b89b363fb1661b9b08b4bc66b3ebc41af1932db65c96b6",
        "truth": "1b1220418b2aa8a099a3dffaa9a6e1acd462ecae80609b6896e703d8d6283ff1",
    },
    "fish-02": {
        "pixels": "bf62e48ea7a5727cf0930589eb1751581612055dce90ad7ecefc6aea1d0f29b1",
        "truth": "db1d4102fb9184abc6d5f255654b62bba6c4a0af93b333951a4eaf34a89e9502",
    },
    "fish-03": {
        "pixels": "30512bdc8bc981d87115095f6ad4226886158e036baac8f8bd05c22a50c7e782",
        "truth": "213783949f9cd36454d0d8615c36f300ce7cf7b2ad2406583dac1786b7a0d388",
    },
    "robot-01": {
        "pixels": "d23563288d1594e9152fd09e7fd31b0b952df69a903fd2f46cad6b84cfe3f090",
        "truth": "05c3b84ece8d5690ff376cea1cbfdbf03029359f999851c43f08297348d4a662",
    },
    "robot-02": {
        "pixels": "bf51e7be36ec8e5da65c23383a93bce135b5eae2e5db7f94940d1255066beddd",
        "truth": "2aeb33279be98b6d917e242b166c7eec13a7149a1791d438adae014dbf605a47",
    },
    "robot-03": {
        "pixels": "c4232e487f6af3e5782b71d074d660b5b99ce59ca6b3e02d69822b6b75539636",
        "truth": "655052692129a4a7618836e85f2ec24ed7f46605cc8f030319c7c590dce1951e",
    },
    "vehicle-01": {
        "pixels": "a507d802ff31c4bb8ca28a6e361442c7357a056106b7796f3a15c0cae2dcf836",
        "truth": "44e74ef817c0093f25705937b5e1a5c988e5743a9bfd958d500fe757ae794026",
    },
    "vehicle-02": {
        "pixels": "281acd41780ea2e80d0df4645ed69bdfb3ea1ddee6714ff586b4bf2151176b76",
        "truth": "ef96e40f0f6eb70b5c1e401dfd3e94e309a3b5dadd5094375c4a1f70b0b55617",
    },
    "vehicle-03": {
        "pixels": "60229fae5cc7a1463e123687b63cd72ba1bec68ee9a29a3284fb9a29b07c0f49",
        "truth": "6b5a06ca2a1d9546407aac3d84883ebe28e17ca594a56d2afa648805a9fcc6bf",
    },
    "plant-01": {
        "pixels": "b515fbb753190e3a572d4f4cbb02686abc102fc8e555b72b7e46d9f8d3aeefff",
        "truth": "4bfefd90ba6985f5fde7e74107710b8257fb49b4be0cd26c86be4fa61e2d25ed",
    },
    "plant-02": {
        "pixels": "8d150fc16e24c8f033e392815b3cb66fe73600e89d931fdb325d9872288dc852",
        "truth": "8000101a1ea7e9942f70731af05f027a3ebce742292bbfd250e1c87abc408d30",
    },
    "plant-03": {
        "pixels": "ae393490639906aa1477314cedc3c2fdf3ccbcc9f39f712233c6ddf4c6064d37",
        "truth": "ca6894996514894055df3522e69d6faedc1545bef69b4e1c5776380158a3292a",
    },
    "crab-01": {
        "pixels": "ed27acb03daf587c3e94fa155f7f05a2317a9d6ec78e5f4e02c704e86fb0fabd",
        "truth": "4a23f52219b716c79c6362864964804264671d8d897ad47e8a4385b927ed6b6a",
    },
    "crab-02": {
        "pixels": "a71715eb0000c59bd110bb76c59e8edd5dd1a1bb4a095ce633e2b3c40c954003",
        "truth": "c8eb3bb41df9fb7220bed31fb41ed4b732683cbe2d9be0e4312e6349c2b71ba7",
    },
    "crab-03": {
        "pixels": "aea0d506df0cb0e1984970666eb8800960bef7bcb5abdf21564b6038a0ad9e76",
        "truth": "70fe74b05c02e5168782a727971f231cef28fa9dfad3fe885129892149a0bf72",
    },
    "crab-04": {
        "pixels": "c17a4796e45eec0fcbc7cdb2b00721a5148bd30ec4724ef234c126bafe91fff6",
        "truth": "326e04ee90a8c9e2dd5afd461f64ede47f91b87bebc62cc22b0317544d1d2916",
    },
    "crab-05": {
        "pixels": "12d1188505a13b2afb68cec950e75d5ddfd8725c65e53a70a870ef40aac5389f",
        "truth": "95bcd3b633a886c1a467ae21cb49db4839e26154af4d3eef64082760de52d9e4",
    },
    "crab-06": {
        "pixels": "9ce3868bba516ddb993f915c0472db27727d6c277dec1285863af0d7c6fba82d",
        "truth": "a9ef5c2fbed90f9d445bd70682f3d178342c5797759c6d1c936785c44b587154",
    },
}

# The same for `toy4d-pinhole`.
EXPECTED_PINHOLE: dict[str, dict[str, str]] = {
    "quadruped-01": {
        "pixels": "42406f801932d285b3819561cb57c7bdec184827bcc111e08b2009d1e235918c",
        "truth": "020cbf8c22b705d1a4e39040395cf61d50658d7efca8890965c7ada74fffcf6b",
    },
    "quadruped-02": {
        "pixels": "b9e79376327de3cf1a29aae9ea8e03c155ea7b2b8f2a56916cea38f25ae24539",
        "truth": "8f96f876fc5938d4a31996525686c5f1fe98db255dba853a423a74fb14f9c943",
    },
    "quadruped-03": {
        "pixels": "de879b82964107edc257a10031579432f47b274bdc1cf3efa5c3339e37cd7ac7",
        "truth": "76ed4a0661b818c3c601853d34987b6b02b2112c83b73e1eb6155cddcdb99cbe",
    },
    "bird-01": {
        "pixels": "40c6b701f3e1eeceddd2a20bbbab2d36b00362b56c7caaeb28f7a69c812e8497",
        "truth": "9182e83a5588a18128d7959ddb8c3729bb32ace50075e0358fbc9868053e309c",
    },
    "bird-02": {
        "pixels": "33d0cde7cfb5c10fb065fc2d9ed1c7dd86d76e3f5e121ee1d617eeeb25ab8c68",
        "truth": "0ab3ce399caebcec52629732dfed928d6a5132198d1532c52893c453386544e5",
    },
    "bird-03": {
        "pixels": "31690cc78c8aeb7b7cc7885c6c85e4d4fa1ae0479829d1ecec4fe5dcb29cd452",
        "truth": "53d6e323294969269571a6a2658e156df129858e3d19aea2496a80f9afadb12f",
    },
    "fish-01": {
        "pixels": "0cd8d586cfed12b6fffa5da5bc9434da8d5a4ae1c0f5e45b4e25248ce276b15d",
        "truth": "056ea3a801f46f239b4e0e85f54857ea1dcc386bf030425f6509bfcc28ecfde6",
    },
    "fish-02": {
        "pixels": "b0f82b41110fa96cb561fcb3ddc1d9d74c673b20011268488993d85e54c5d8ac",
        "truth": "7e41239ad23ff045a5d9cd6ec5b8526c378478436d6205b024a8591235be680d",
    },
    "fish-03": {
        "pixels": "044bbffa61658fd9482b3446d1f6bebfb808dccdff0570bb9f25b6e9f107bca1",
        "truth": "530ad90924fdd291390324850dd803c860593d2a92b8431bb29c6cf1b70f4f89",
    },
    "robot-01": {
        "pixels": "3796a6a214d7d518307ad3dfb1d5daff971bb18a35d064ba2f697e51573d34a0",
        "truth": "a653a0a97c0a2a6bf4372af7baac770cb8db11c66b11c7f23568e302477d456a",
    },
    "robot-02": {
        "pixels": "b9fcac5fc37df415a4229c20af49ce8300c364ec94417febd528067be25a82d2",
        "truth": "3e92ed6df8df42fff4aabc11b0df2e09b5310f7f436692f796b5213fb707543a",
    },
    "robot-03": {
        "pixels": "1221f6a969bce0f1c6aeccfc3f803129987edd20def2655c2320407b02a48726",
        "truth": "a78c213213c057bf1c97a4ca22b6329fc1c9a39940ffe0c99091c0e7e32c0ff5",
    },
    "vehicle-01": {
        "pixels": "5c3f5ba924ddf2643d08be6c62e28f6665bc7557434480c84828c78624cc76a8",
        "truth": "25595ab627e476eefb42bd18972380a8ab8f411cb47f9b7ecf45b3c857020fe6",
    },
    "vehicle-02": {
        "pixels": "01f646ecdfda23549169b1297f68297e1ba5f22073e1880c195a268048e7ead4",
        "truth": "8900ce4f551679c6f38001f9b8ea4cbd44fabf5268a322b03776b2e021338909",
    },
    "vehicle-03": {
        "pixels": "02ba4e342c6c4c48b8d78c1d298ea376d2cef6b67644d9c9172ea61bc82d639f",
        "truth": "9acd990e7d50c98a553bb2d7d9172a73bcd8bb184b1725ebb96d6de999d67a89",
    },
    "plant-01": {
        "pixels": "3a52fa663fb17716f544c544ce991fd07eab7bdc11eb6797c84217c3ec6110d2",
        "truth": "5e2d1a32d51275dbf2256b094f436d486bd42306fbdbff542b10a95fbb279171",
    },
    "plant-02": {
        "pixels": "dc5832b38c507ba2ab88b7bf31143504f788b795547e4276088ce938cf6ea037",
        "truth": "41276657e5b6e1adb18c55dfb2d2ec1511d28c11331e75b6af2802e295640a09",
    },
    "plant-03": {
        "pixels": "782287c8bfd5446b43fc4e38b809d84d59fb3af06d3b89611849215dbb727dc2",
        "truth": "ce87467d781b3d8cdb99508638ff4ba93879e5ff22b4934c46fd6d88838a3c3c",
    },
    "crab-01": {
        "pixels": "2eda13f5398b56ffbbd5f83c8db9ff5260ab8064d0964a2972af16818cdfa6b8",
        "truth": "4b5b78c10e59adb362ed482767d71b0c139d345dcf796299246a0b29c37a3e56",
    },
    "crab-02": {
        "pixels": "229fde173db3612879902a88bc4683c942cb4416eb69bd77384b0567b1127eb6",
        "truth": "2e03189fd4f1b88114e5f7eab0634be0d501259fc59093d580fb7331775ce657",
    },
    "crab-03": {
        "pixels": "5a1a49a66d21b3590bc52ebf9fbd2b644855f0eca259584f2a6db237cf5902cd",
        "truth": "3ef9d78fbf311d4f544f2d2a8fad8d7c31c00b31ecb572e1b8fe6af5cf19cf1d",
    },
    "crab-04": {
        "pixels": "ee813eeaa7ce7db4a12cdd40608a72ca5dcdd9e059cf1ea6eae77bae99ff6cd9",
        "truth": "e8de29ffea0b73d7ba24ddb9a2c2f229a1a64368728964e4044620b73fd4d92a",
    },
    "crab-05": {
        "pixels": "857c7acc99c0fd5d06b794fd4af1facdc1b1f203bfaad17f0f5ab228659e230b",
        "truth": "3e4fcd6dfd2b164af9ea12ea7a3057251b194bf50f4b8800b4e71b84227c1c83",
    },
    "crab-06": {
        "pixels": "3b1c6fa0375e8b3439a66a01941bc3b06a397c9152b45dbf779fcc74c19973c5",
        "truth": "b798e6931cc83b2b734e316edb3f02f3dcf165cd2f788a895ece983c6c93c5e6",
    },
}

# The same for `toy4d-wild`.
EXPECTED_WILD: dict[str, dict[str, str]] = {
    "fiddler-01": {
        "pixels": "eacd63833e589b798ec52d4dd39a24fe1ca7886a81cd5dd2432a628a6c62b43f",
        "truth": "0a25a5e7ee8463a8ea41f1f60ff7d883078cbc1df6762602288f0b2371abde61",
    },
    "fiddler-02": {
        "pixels": "7211f28baf803f2898d14ca991ca71d93e3c006b10616a1e6ee831877805ccfe",
        "truth": "f7d39647297b29aada62fc1777422bdb1502eede75193a8d56709b691172e263",
    },
    "fiddler-03": {
        "pixels": "4fb3a1f5cf9c6c3a9fbd35828b9b2f1728c06545118ca86a6ab52fb318db5a0d",
        "truth": "0ecd10e85648ae635087d7af551942b79bfd388fa75f44f1e38f2532626a399e",
    },
    "fiddler-04": {
        "pixels": "b9dea9b18857ad87d7bd1fafff0716d8b3cc9b257559a3d59c674e1a8554693c",
        "truth": "4131c813ec0d0dbfc97a9bbbd2b40c1a62ca09b9d95fe1535b9dd47311931a27",
    },
    "fiddler-05": {
        "pixels": "4f52877ae0411958de72fd177897c65ae7bac0c9e8c3529bc9f08e036dc945cc",
        "truth": "e7947f87044c4517c5878ff29b94215d4b23a2b0e45c5106aaffb675d0e636a4",
    },
    "serpent-01": {
        "pixels": "2ba6eaab499e511c15af5d7f7de6a0f2f1d86fa2f6659e27bd80a989035b9b35",
        "truth": "b8482b38d0f5227507ae0db29a4cd5e8c70b83bf4b284c656b42657830988912",
    },
    "serpent-02": {
        "pixels": "789eb7ed0b720414a59a4e30bc947d60a49114449bddcc03b94e18c3b29002d5",
        "truth": "1825415241437ff552f9acabc33bdf196b0ec3e2d6a7a4ff0e80c92eef5e51b5",
    },
    "serpent-03": {
        "pixels": "dc8cffacf00379887b06d3c8930b2b9f9e03e71138cc907ba49ad6890a68d113",
        "truth": "8ac1ee86d7249ebfb210bb15e50f2310429e1830544e553ffd6426577d0370bc",
    },
    "serpent-04": {
        "pixels": "2a82e5172a623591240de44b4bb7dff437bae43e706bf0361e6f8e2156930704",
        "truth": "84ee3831f517de8cccc54ea75e61a02290361ece3000d093f3ba8f26742a0ad1",
    },
    "serpent-05": {
        "pixels": "4aa5adb078409be63fce53b3242d4a75e7eece1caff31387cab53d028dbf086d",
        "truth": "b5652ff66cb319efc468cc2f40095dc478525ca49248f40f67a1fe121dfe042d",
    },
    "dragonfly-01": {
        "pixels": "b72434da895e76864de7d9921f230ae9168acd7ef4132d3b31feeb304c839ede",
        "truth": "76d04404aa2a89ac0ff5163d3dd50d20b3d4e680757cfa4ef9fbba9ab4c1c4aa",
    },
    "dragonfly-02": {
        "pixels": "c7bc7855a2807bd7b934a97286fa5f3a4b9c5c13f26cb45aff236632063165cb",
        "truth": "2f6df35385e6e01b52e5a6c4bd1132fdf746eb5e4e381f52406dbaf0c3e316bd",
    },
    "dragonfly-03": {
        "pixels": "24914ba5592928bc15b73bfd1122407f593d3a5d99eae2dfc65ec11ea9b366f5",
        "truth": "1ad7cb6e730b79116e3998520d80f4b61be89d39dbe3403c1a4a5883fcedcc1f",
    },
    "dragonfly-04": {
        "pixels": "d9fb96730d0a2979c57eee55c0145ce4e4df562761679019e4e71ae752018340",
        "truth": "72ebfebe9b6d654a411c772cc90c4b2ce411a4d439c00820447935c7db8e0238",
    },
    "dragonfly-05": {
        "pixels": "fe8c0f1cd7976071b82aae6578ab2301072cd1f3c1f52637b258557f9f890d19",
        "truth": "54b3c9d21ef5dfe644bc6a75d623d763b11fc8ef0f8c75247ede9ffb67985b4b",
    },
    "carousel-01": {
        "pixels": "6ca662c8b2cfa054bb32ef2780a493054f029e53514da394f398f7d0068a6de6",
        "truth": "317cba2a46ab9d69191c9b5281c1db6c0600b27da151784556c7bf63a73db1c7",
    },
    "carousel-02": {
        "pixels": "8b56fb8e4e246842c0758323acb38b828fce06d23e558e34deb948cd430c8fc2",
        "truth": "59fa5f0906275bcdeb1c5fd3841aab173672de073ead6395c8085f801ab000f0",
    },
    "carousel-03": {
        "pixels": "6767387de785680ef6be884759bc1d75493b42eee99c16d1fb03d7998af052f5",
        "truth": "66e9c4a47d75afba98b74c5c0b8b1d229b7991a6bd60729cad7886a309ff3a95",
    },
    "carousel-04": {
        "pixels": "c0dfb5885772e3dd81af98d6428e8ca9f60181b7584ef46c84b9d0e892f8c7cd",
        "truth": "3b96258c17705a60a5b7fe6bbf33bbd7091af81d790c14f21ba07d4707bf9dc7",
    },
    "carousel-05": {
        "pixels": "719a6fee98679246d975c667ccc9c8d966f487c9edaaf67f98f63d68263a1f5f",
        "truth": "9087d858219f1f75aeab7430f00c5a01e20369854f926bd3bd451aa5b0e4a74b",
    },
    "harlequin-01": {
        "pixels": "8b08a76e0a86badcbaa0e5d398d59f0d88c6611f2f19fbf2a13f7b248522fe22",
        "truth": "1abcfc8272578f439d20a7e19c9c09c3c97eb3872e39f77a9ad7277f81fd08be",
    },
    "harlequin-02": {
        "pixels": "681e448160e4e9904008bb1b2cdeed0e0efdd05e82f5ed3f3a76918f015420b8",
        "truth": "2481f873b65adebef18e2a501a31dd97af280d8d24b8c16e736980a007bcaf2b",
    },
    "harlequin-03": {
        "pixels": "d2f3262644fce6cbdadb41992b98894e638c20d9697ffa0dfb0afe238d4f5de8",
        "truth": "ce1afedad78fff25e4325c509512fec662e33817825a49dbd9547c39d0f90e63",
    },
    "harlequin-04": {
        "pixels": "dbdb8a6e29cb4de817d951781650d3f6aaa68bdd09bedaf81d22b0ea6617aa7c",
        "truth": "e56ad3656cd0d673765b77b561f6b58c069f3bff957e7685b2a2ab33df131c37",
    },
    "harlequin-05": {
        "pixels": "e2bf777fb16698716ccb9d9eeac538ed90ebed9b9cc88ac7f276b424b91b97ab",
        "truth": "73b5177a5d5dff614bb8f52780519bee28f4c189fd4c0732a2fb6308cfb14008",
    },
}
