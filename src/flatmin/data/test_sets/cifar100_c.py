"""CIFAR-100-C: CIFAR-100's 10,000 test images under 19 corruptions at five severities, the official files.

Of the archive (2.9 GB) only the corruptions that a study asks for are kept.
"""

from __future__ import annotations

from flatmin.data.test_set import Corruptions
from flatmin.data.test_sets._cifar_c import CITATION, LICENCE, cifar_c_archive

_MD5 = {
    "brightness": "f22d7195aecd6abb541e27fca230c171",
    "contrast": "322bb385f1d05154ee197ca16535f71e",
    "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
    "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
    "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
    "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
    "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
    "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
    "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
    "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
    "labels": "bb4026e9ce52996b95f439544568cdb2",
    "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
    "pixelate": "96c00c60f144539e14cffb02ddbd0640",
    "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
    "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
    "snow": "0237be164583af146b7b144e73b43465",
    "spatter": "12ccf41d62564d36e1f6a6ada5022728",
    "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "zoom_blur": "0204613400c034a81c4830d5df81cb82",
}

TEST_SET = Corruptions(
    name="cifar100_c",
    title="CIFAR-100-C",
    source="cifar100",
    licence=LICENCE,
    citation=CITATION,
    archives=(
        cifar_c_archive(
            "CIFAR-100-C",
            url="https://zenodo.org/records/3555552/files/CIFAR-100-C.tar?download=1",
            md5="11f0ed0f1191edbf9fa23466ae6021d3",
            size=2_918_473_216,
            members=_MD5,
        ),
    ),
)
