"""Golden hashes: after the first release the bits of a seed and of a step never change.

Each is the sha256 of the bytes that an op returns for inputs made without a rounding (tests/support.py): first
for float32, then for float64. A hash that differs while test_same_bits.py passes: the definition has changed.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt.reference import policy as reference_policy

from ..cases import golden_ids, golden_outputs
from ..support import DTYPES, digest, exact_values

GOLDEN: dict[str, tuple[str, str]] = {
    "leaky_relu": (
        "d434661ef38bfb2e058c55f26a43e168ea40105df620d165653670f2c9563d98",
        "28ed271f5ae5204f75ab3013b3a17b44549333d948c7b82c3c7f082452a96063",
    ),
    "leaky_relu_backward": (
        "04eae76fe93323d7909ac889f40043d0e6b72e3cf34e35c3380d2db259e6e269",
        "ca3605ff1ef0219dfa53cd5b314bb99bb4f0cea9b49acd5ed59a1ad35096e6be",
    ),
    "tanh": (
        "d8f65b44aba9ae4ca181ae88345e98496212bdd3c320bfd575f7a606e865a73a",
        "dba5e38b5c5da0180b36236838ea4ce7563b89cf175e5c9330096ebb316b2cc6",
    ),
    "tanh_backward": (
        "891311670ae3c30380c057a0512a24cf2e2e2739f63f2d164cccb0edbff1cf8e",
        "dd437765dcdedab10fbac78fa49bc3de7bc3ab3d0b93a0191d76c67e0ab3149f",
    ),
    "bias_tanh": (
        "8d4bd32128bb29916530705ac89d578af96ae81b680f4d225ef3e03bef9658ca",
        "cf0ac15f9e2925d3d8a6e94bb3365066915b85a0b42a6daef6553fa99c889a6e",
    ),
    "bias_tanh_backward": (
        "e41333bdc55618486c44a9d846f6220f157c063266af7d3e70a76a1ba1755087",
        "c760c48f7e28933f7f50b79d85717b12643633b2b2b296dde93e6b0bc5b3e437",
    ),
    "inactive_fraction": (
        "01cc64b96d7376fedc1c56579fc5ac280be5c9ce02d2bb33db81cf42285ce0bf",
        "8fa62b99d8129c893bb80dfd2ed274a99c5b980a9ab0f32351baff615d115fc2",
    ),
    "Philox4x32.random_raw": (
        "df993cc355f04906857542690061815d7c809443095f90f106b103baf513a68e",
        "df993cc355f04906857542690061815d7c809443095f90f106b103baf513a68e",
    ),
    "Philox4x32.random": (
        "9e779ad3ab0f135894042c845390fe391204c1ae1ad84a336ae0d2178483407a",
        "b2a3af29397cd5c0327b64b6d616b8b73ba90cbc1e94d00e90ba09690b67495b",
    ),
    "Philox4x32.standard_normal": (
        "865f6fe44d47ae004c01770f53d0eea34379b1aaba2cbc3d16e87f44bce4eb77",
        "2205590b8bfaeb368ca579aed020e43acd57b48731bf814f595be3ba033e8920",
    ),
    "Philox4x32.integers": (
        "f786d6e6efc3b8a2fe610b00dc260350a47cee7f866aeb83cc2340b942473a93",
        "f786d6e6efc3b8a2fe610b00dc260350a47cee7f866aeb83cc2340b942473a93",
    ),
    "Philox4x32.permutation": (
        "bb3c9673487907ca28d3052be82a71bdca2daaae02e3ecbc951be18ddad92c7d",
        "bb3c9673487907ca28d3052be82a71bdca2daaae02e3ecbc951be18ddad92c7d",
    ),
    "Philox4x32.spawn": (
        "d15a28ba8ce9ad5ec6bed25b0399c7c1f1b634cda491e789bc07bfe9ca16b495",
        "d15a28ba8ce9ad5ec6bed25b0399c7c1f1b634cda491e789bc07bfe9ca16b495",
    ),
    "dropout": (
        "92e1263669aab5c4733de7e48e23fb65912e937e7150ba4d328dc6b4da650088",
        "be0d036c8b3b55be7d5dfa1d13deeecd3ddd854d62c86e452f298ae911f6b0f8",
    ),
    "dropout_backward": (
        "294d4be636af0ef38151f4710ee7bd5aac7ba19748a56a6d2212cf70f06ea4a9",
        "16060ba1df72cb87f382733160bd3c543b5d66b167fb115479bcad66973d4756",
    ),
    "bias_leaky_relu_dropout": (
        "b4a65119140c27486556bb6290cf178f91a91d7397ca0d9a2cd382f87c0cc327",
        "131b6e471e5a549bbb752f27a22ae6a1afb11872f9d3ccccea14a31a4b346b75",
    ),
    "bias_leaky_relu_dropout_backward": (
        "872369a9fa8615dd1bd57bad5edc644214ae310b08414338f763c1065ac86b5a",
        "ccb2d90bd8d0a005bcdb617c79b5c3f581c484380ff2817f5e47e8f63a8b0282",
    ),
    "DropoutMask.to_array": (
        "6198690c9ccdcd33753abb4e0bc8a6370074f15e7902c58d43a0b3ec38caf559",
        "6198690c9ccdcd33753abb4e0bc8a6370074f15e7902c58d43a0b3ec38caf559",
    ),
    "adam_step": (
        "bae0bf081e1fecf636e4689c09dc2652dbf20bb1478ff037b928747505c6855d",
        "6761d7ec3dbf99fa16cca9a87bd86f7e7129450b6830d15bf4a85626808b1747",
    ),
    "adam_step default betas": (
        "10fb8738ce3439105ae7d6e589a7899546e1333bcfcc0e4a8347a426a9e1075f",
        "0f93ffbf450d2a629115f27d1642d0080247cd8653b79cbee4155da6adb1add2",
    ),
    "adam_step beta2 0.9999": (
        "736c82959fdbf64786d7dd988009f27125e975181d5d4c91a801626697f788be",
        "aec4fb895fd7d455cd4f878dc95b788b1c798aa962f458312e7861a5e6c5a188",
    ),
    "adam_step betas below 1/2": (
        "71093e8d1ff4554398ae470bb9f02c579bd9ecee21b0711ebab91452bbe0554d",
        "ebbb1e6d05899bc241484c5b7ab391d9866cb94b009b4ca68e2ac419885b2a8f",
    ),
    "adam_step of bfloat16": (
        "1ac616f19f12e74bd1c12dfddbcfd16945681c430f42608085074978e3fd96b0",
        "1ac616f19f12e74bd1c12dfddbcfd16945681c430f42608085074978e3fd96b0",
    ),
    "sgd_step of bfloat16": (
        "f5137d92c8f746e3b552573a27c5d84a3f5954c23903a2a83f30fb02add35c48",
        "f5137d92c8f746e3b552573a27c5d84a3f5954c23903a2a83f30fb02add35c48",
    ),
    "rmsprop_step of bfloat16": (
        "a20a981b701e672f66894fed8f1ad2d85872084197ec4259035b966633129032",
        "a20a981b701e672f66894fed8f1ad2d85872084197ec4259035b966633129032",
    ),
    "grad_norm of bfloat16": (
        "b323d7c088b80f3e6701906f6fc49b56ffa3cb7265b3f8870dde0542b6557a87",
        "b323d7c088b80f3e6701906f6fc49b56ffa3cb7265b3f8870dde0542b6557a87",
    ),
    "sgd_step": (
        "48d33ce54cabb741d0e3fb83aa7118edf3124005032a33d8270b66aa39b47078",
        "c45b126512f35b67f435b721b20becb5e0af34fa4ed330191c2218409d465630",
    ),
    "Adam": (
        "1ffd8ed73c118b142de8cbccb0e0d3b07c74bd537f9e85a159dc7aaa3a467feb",
        "31fdf2fce22b31f8f7aa342b41e3c0f15ee78f1c3a24f6b1e68624f64ff3399a",
    ),
    "AdamW": (
        "97e5649fc976232f0ae7feff97601a903cb2501a89a8e0b7c0404b132a528ec5",
        "81f9e8d7b11e507b42860ecbd3832c0bcb819f434125b77a3c5c04548e2f991b",
    ),
    "SGD": (
        "7b32579853832e142f795f7df1c9a868d6f95e28410e793926ee3d0b9723dfe1",
        "5387a9c34df3ada58ae145e97c8577d2ddd19b4da48b1127cdbd6c1f40ffdacc",
    ),
    "rmsprop_step": (
        "5b5d3409fb2c82f7348524c903197d64ffa16f678fcbcb05d581036f487edd39",
        "9091d6aa31a398345d4f91c9afecf632943748e374512bd819b92ba15e4adf2d",
    ),
    "rmsprop_step default": (
        "5bb2e59e0725d8c581db8b401d7f71d95499556d19a534e22b9296a42cf476f4",
        "64ab262433d3eee0f8c764e3d8a5d81d48d619e59e3ba8eee358b0d7bb978e64",
    ),
    "RMSprop": (
        "809b0ef0c3073625d29846b8f92fcbe0bd7e3def2d419d1804ada277a62e1227",
        "3f979aba041f3cbb93ccdcf149d065ee450675632c58b1aea70f19bbc60bebd2",
    ),
    "RMSprop centered": (
        "01ec817c309e179af6850d46e91e81cb24e6c1f768fb793ffae75fe03e15711d",
        "0041744a386506c8dffb3c4132396af70c9b110c8d09bedb9e8e0eecebbcc68b",
    ),
    "RMSprop momentum": (
        "a558a8a493a434588a4486900d2b243447b0575d504e9acd21961042f86b57a6",
        "bc5119eb89d67038eee70f49f0d6f52b106f9868b8b34f70c2fb246efec63224",
    ),
    "RMSprop everything": (
        "48291463a4aae08792d2fb3dbf85b704f5e3ff38bbfb82c3686aaeca688b6565",
        "24f9bd6758a6475269a168b1b7b92b26c385aa49f5215a367868b49ead218213",
    ),
    "RMSprop bfloat16": (
        "04bf3dcca953447e5fa883200bbb258ade4719d61bdcebd8339aea0b8bde2fd2",
        "29502b2505ee1a1db5c9a035c11c815911d77eaeccc93f95e15624f11a9eb230",
    ),
    "RMSprop 8bit": (
        "ce148ff9417aa847b11a04c4f3ffd6e534f6a7f108a4d669319dcb026a0fe067",
        "5249de7c08add7aaa65df80709c1a0e984b6443e11796a31dc7946309909d7cb",
    ),
    "Adam everything": (
        "17f46996d07247ad79cf0f9cd2c426082ea6540c92a03c8c9e1352773f3c2d78",
        "23b46d70e6ae2e49ea9c1e251ab11feb00ab4a3f4ab4917733bba7555d823c8f",
    ),
    "Adam bfloat16": (
        "7b44814b06e5055dcfb65723c14fc20e125d68640688741ff9690944485979cd",
        "05a41503b3c5731b8bd9da4facc877664bf3cf280bc90ca377ba0a72addbbb16",
    ),
    "Adam 8bit": (
        "428b785f5f6f4d60d24698863bd8531efd3771dae5804e9fbc83f9d55f77eef3",
        "003a0949df8b9a7453aa7c00b6865b7bb6fdc65a88c191e9a059b1cf6f9f9299",
    ),
    "SGD bfloat16": (
        "de161eedde823dbf0d87034e13dde5ce27144a5738c8b8ba6e9f4738ccc4dcb9",
        "27eee8f7d4a159719711a2493fefa95b958a94deafe4db3e99feebd9ea09d815",
    ),
    "SGD 8bit": (
        "62d245f4449ed3595ed54288c4fd5c5206b9ff67c49817ace54ca23137240b35",
        "6dedc6d4f34ec5d062c3fc0f7e48f7a8b2d5c512c2773256aea340a31591b7d0",
    ),
    "SparseRows": (
        "910865534dd02165585c3f6815c97dc127ed020a89b8acfde11562ede8dfd390",
        "9aaa1256c3b7ea3624c457737e3bdca031790d1bfaa57ba4b95ff15979b7a562",
    ),
    "SparseRows SGD": (
        "f23ae775b2107b1206e1d5799ec0649bc856a3147a659c60c320263de8eee11c",
        "2f39181d0fe1134c97719c38e137cf4d997ee881622531b28f6a909888f792a0",
    ),
    "SparseRows RMSprop": (
        "2ee57f8a4f6047b58f1182e782a23fb0d79389188e305890d94dc98798ffe015",
        "a66a50bfac2a7d7180abb16aa1150c6792687f8a9ae07177999f0c2817209f8b",
    ),
    "ema_update": (
        "ad1cbf4fe9dd7b2976d61dbcc406af430c0af6830d60291f812b8c0bc347e877",
        "77ce7ae32885b0e7374ece3bb542f162f760dbf27e1df7c9df8e7568ceb9b5cf",
    ),
    "ema_update below 1/2": (
        "39c3bb53b0d27825f20c6bb92f3ac58a96ddf396ca22470d8e00f899b57c0c65",
        "5cefd6a38ecd521e6c84292e3f6535dc2b3c1fb841ba4dc04fae08d91e842fb1",
    ),
    "grad_norm": (
        "0ac0894a0ed4d4b7d0d9ee193343eb0364f8fc0a6e3f38e660f9947edcdcffbb",
        "5aad00b470da40950a88c20d73b33e9ce9793f550713c85f654872ff88b1825c",
    ),
    "clip_grad_norm_": (
        "5e252d0922c5c71dac9307b541cc1ec8ee633f24e3e911d8d717a03b027d0a56",
        "52846e816765fb9f221ea1a3a15ba73d4af06951b5d690d5a45adc774bfc41a0",
    ),
    "l2_penalty": (
        "80bc82a38a5670693847f25e1dc127d4c991fb6bb8c53f75d513179512a50552",
        "fff04de7d6d7eb4a438c918e0058284a2e285b9ba662011e4a65059e4fdb0b12",
    ),
    "policy.categorical_kl": (
        "8cc06bb38c6a68cc28e099cd713f70ffa2880f277fdde42958066e995464c277",
        "4645536d1c36e27678de2b35d6db7b35a8d4e9eadcd0cc6ecda7459a24212645",
    ),
    "policy.categorical_log_prob": (
        "7de63978d1688250648f1d90e03761fbaf12c2582026b799b3303f19d898bfa0",
        "e7e864722cdc6a732e74afde48e70313ddf5529a673efbc8800920ebb9f177a6",
    ),
    "policy.categorical_entropy": (
        "fc9e0d72b495df3a86db5ce502411ebf8abb369152a36b7dfa8bbfd4bbcc3c9c",
        "5670715d3a589b86ec0db757e07a6bd7e73e6e145ed0d512770eb7919a9545dc",
    ),
    "policy.categorical_entropy wide": (
        "cf5f492c88e53ee7d23cd2ab52a9b03b247396a6a9be07c5517b524b8418f92b",
        "7e233588030233a39e1ad1f4e511b717025c13e07ce9420a8e369cb5b2b24ca1",
    ),
    "policy.categorical_sample": (
        "62ee8102a2b2b545a84d67b9294b7a3538eb63ad50666cf92fbabeea8fe5458a",
        "aeff8794f39969cf94a46883fa445e470937a2bc0ebc157ad21de5ff45b64c6f",
    ),
    "policy.categorical_sample many actions": (
        "6472fade7c8548f27e5ef3fc1b169f195f8f94fc2161cc158bce424f45e25404",
        "1e3011b674f6406b41f9e8ee98db218fc998ca3b615a89c2ea4e21b4b8da12ac",
    ),
    "policy.categorical_policy_gradient": (
        "171d45625c0cd7c807a5e99fb7a491cd670f96fbefdc9441b48634ee372efc5e",
        "e40018f8748abe641d62c40b11de67b55e3cb4cd99900676026d2f3c2ad37ecd",
    ),
    "policy.categorical_ppo_loss": (
        "8ca7ff5162f24fa3d6a88e9d58e494d0b19d0577ed5f4baf9c1f10e8dc15d952",
        "0228e97c43c20c5599dc28c847d4649f14a62ee06a16820b02a691e305b7bbca",
    ),
    "policy.gaussian_kl": (
        "13de8c775f7507a065d5e4ea29a51d0fb8a0cb7a20bb259f4b9f40d28cf7abc1",
        "7419f35a978f762283850121f052ede0191505e69a8466052456ff9559197631",
    ),
    "policy.gaussian_log_prob": (
        "069f31a5e9a657d6a7e77b8484cd93f8a8a832598f5b27e6f47ec389a36be3a6",
        "54c532190c282825eced41d2052360dc03f7350c3a4df01761167abea72eaef0",
    ),
    "policy.gaussian_entropy": (
        "017c0cbf3297779d9de06adccbf29baf67a4f89b86cc7b525a134fd84d931939",
        "8efd54625311c4b74601f2d41f3e3eede9bae3509f73d6c4f54185ab19c7f9a2",
    ),
    "policy.gaussian_sample": (
        "7197e7dddfc29669e59a233d051df6035b23a0008e5c39335820d53edbe7ad27",
        "0b22737d18edcaaa36dedabe729e9fc472ad09c487187e19c6a78dcf0304200f",
    ),
    "policy.gaussian_policy_gradient": (
        "59fbec9e93e952aa060bde4b15e8b553f00861ddb16360114c9dcf943baa8955",
        "9522219a92d4ff67ead21d989104d0c012b6dd5a7ddfb28c6e416981932653a7",
    ),
    "policy.gaussian_ppo_loss": (
        "c70797f6a2cd7569738499907ef2e08068f9a9dbc125109f1a41edec73a578d5",
        "ce4d2e1f4263deb5e1007ebff32dd9ea5d5e0a3bae70b73332d08ad4b7f57453",
    ),
    "policy.discounted_returns": (
        "97aa533918632f1e1806a544e110b9dc0d56c4c4cbe6f0bfe1b475111671f118",
        "55b507969bfdad61e057d275511b8c34470d99f00384e410efa35b09b5432152",
    ),
    "policy.gae": (
        "cc0ba324568cc259a20a80d304efaee5a842d35626097e80c8df4550c825b867",
        "6c79c1a1a70dfddaf80d0471a95b2fb55c327e4b032b6dc19d5dda7edad6d977",
    ),
    "policy.vtrace": (
        "8d425617a6f73f364e294530b3f178357171f950773f9722624683a015fcc3d5",
        "faf8df6272a57f3f7e557004804f7bf37174c518a57e04096f9c62a292f377c9",
    ),
    "policy.normalize_advantage": (
        "815458a62725d0af126ded119b19d3d68cf16a1d313e35c059369bf4537d2a79",
        "db2df6fb0d5b491f4be5ff766575813425029c630d842aadc0d6594f08dac3d5",
    ),
    "policy.categorical_act": (
        "36ae3581903e94db83a26013a1d62addd921e1a1c4270b979590d0b02050070b",
        "8ad1fb654d275425899efd7b263086c8eb04e6327982607a35e5531406728415",
    ),
    "policy.gaussian_act": (
        "20ad34193afe1fd95a7a9b4f6f127720c4fd6a64d72a4a4d206591777ca74ec6",
        "414464f7b364b43df6bd7e62dd071a89fd9545e2dacfc62f3d063c04101b256b",
    ),
    "policy.perceptron": (
        "b7c8e060489ef9df5542e332c4b6485dc48950858fa69f9097e8091f636e33d4",
        "0fafb3561a04f39eca3c620e17799e872bebe66506f232c666b852321ccbe298",
    ),
    "policy.perceptron_backward": (
        "ce22adcf96ef2c8d3ea5320aec4a2353c8f197422de3591dea6b48bf189f3e44",
        "ab9bf97f548ba2dcb77bb5c24db3dada94fbd4a881c6d76c81e510e116f826ab",
    ),
    "minimize_cem": (
        "cc021dcdb4c864d8a76d691cd90968f7b5be2c50b1bc0b2f50b5096f541889ce",
        "365e04a44268a5984df693cd396cc2788ec12920f08574ff93fc6e09c01c0b30",
    ),
    "minimize_cem full": (
        "daf8949beadc7c3216401d2760e2e36ea455c1b7c306d5439fa950fe4a3252f2",
        "616af034ab732b15f8dff3a605af6fd5b48682a98127d31d52b72c9df52951bf",
    ),
    "minimize_cem equal": (
        "9ec692a22df6521464bc3078e1b688905bdd37d016229279961fcf55d1e89c9f",
        "cb053713dbad3828fed377039911c4d8f4d82e8da5d390c29d17072df7d61fbf",
    ),
    "CEM": (
        "8b8e36e2808afcfa15f1fc63cb8e09759d56543136d1743a71b467a414b16b23",
        "9cf02341bea433da8f19dd6b50b68315956d0c2f1548e880248a9ad27970f766",
    ),
    "minimize_cem batch": (
        "4c3ff2a273028636a17fdf3c4282fcd0c475bc52b2a82fc7b0b02c51e9c3590a",
        "9404b1f3160204dd35b1e287546918dad2cab13e0d35fd4843e05274d2a233c3",
    ),
    "plan.CEMPlanner elites": (
        "62c6651d2a542a59ed14c66a4dc671af8fe1fb30e73aafd793a4901afb6e0a9c",
        "fa32ecaee8477abe7bb386433b93e16eaa3ec08796237697d2c029c1e671acfb",
    ),
    "plan.CEMPlanner softmax": (
        "e00520477a90a10b29d09237f261c05716ae27b847217e0f6fa2045bab494299",
        "67d08009825e814aba53c11defa674c6139fb779e66748ce88c9630d7ad91cfb",
    ),
    "plan.CEMPlanner mppi": (
        "cb27808f47ad53e60b60d07378547a4fab286b42c86fe09510088f3077741d2d",
        "60e6972b7e02e49badd363daae866da7babf49aab524804f1103e6492bf7f12d",
    ),
    "plan.CEMPlanner icem": (
        "c03024f0f81d99e5336d2ea9def03693f947d80d908492f1e417cd7b3e4dd353",
        "62e429bde446fe13a48b083b39516e22938a791045dd87ca216a26aecd25480a",
    ),
    "plan.CEMPlanner truncated": (
        "2e4dfe085a8c2789aceb880a976403a5e8a265252f2964742145de4870d30fd5",
        "533e962458c4e8dfdaffc22f4b22bf4a53822c6dbc6dc46e638898b75e77627f",
    ),
}
INPUT = (
    "9fdc8616f5d702c053f9c0308385a04fa1e5eb1bb1c2e06d3bb384edd2c48d54",
    "598f4112891ef7f85e3a4f539c787a426dae2a8c064166725db9ced91ec21400",
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs(dtype):
    assert digest([exact_values(k, 1000, dtype) for k in range(4)]) == INPUT[DTYPES.index(dtype)]


def test_every_public_op_has_a_hash():
    hashed = {name.split()[0].split(".")[0] for name in GOLDEN}
    not_ops = {"__version__", "get_isa", "get_num_threads", "num_threads", "set_num_threads", "show_config"}
    assert hashed - {"policy", "plan"} == set(fastopt.__all__) - not_ops
    hashed = {name.removeprefix("policy.").split()[0] for name in GOLDEN if name.startswith("policy.")}
    assert hashed == set(fastopt.policy.__all__) & set(vars(reference_policy))
    assert GOLDEN.keys() == golden_outputs(np.float32, 8).keys()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", golden_ids(), ids=lambda name: golden_ids()[name])
@pytest.mark.parametrize("threads", [1, 3])
def test_golden(name, dtype, threads):
    fastopt.set_num_threads(threads)
    assert digest(golden_outputs(dtype)[name]()) == GOLDEN.get(name, ("none yet", "none yet"))[DTYPES.index(dtype)]
