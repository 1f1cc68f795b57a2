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
