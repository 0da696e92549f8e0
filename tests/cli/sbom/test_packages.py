"""What is read of a package."""

from __future__ import annotations

import pytest

from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import described

TABLE = LibraryTable("""libraries = [
    {name = "x264", licence = "GPL-2.0-or-later", files = ["libx264"]},
    {name = "UCX of NVIDIA", licence = "LicenseRef-NvidiaProprietary", files = ["libuct_ib_mlx5_gda"]},
    {name = "UCX", licence = "BSD-3-Clause", files = ["libuct*"]},
]""")


@pytest.mark.parametrize(
    ("metadata", "licence", "is_spdx"),
    [
        (["License-Expression: MIT AND Zlib", "License: BSD"], "MIT AND Zlib", True),
        (["License: 3-Clause BSD License"], "BSD-3-Clause", True),
        (["License: Long text", "Classifier: License :: OSI Approved :: MIT License"], "MIT", True),
        (["Classifier: License :: OSI Approved :: BSD License"], "BSD License", False),
        (["License: Matplotlib's own"], "Matplotlib's own", False),
        (["License: " + "word " * 40], "unknown", False),
        ([], "unknown", False),
    ],
)
def test_the_licence_is_the_expression_else_the_field_else_the_classifier(
    make_package, metadata, licence, is_spdx
):
    package = described(make_package("a", metadata=metadata), TABLE)
    assert (package.licence, package.is_spdx) == (licence, is_spdx)


def test_libraries_are_told_from_extension_modules_and_named_without_hash_and_version(make_package):
    files = [
        "a.libs/libx264-d6533a8d.so.165",
        "a.libs/libuct_ib-1a2b3c4d-5e6f7a8b.so.0.0.0",
        "a.libs/libother.so",
        "a/core.cpython-311-x86_64-linux-gnu.so",
        "a/libcore.abi3.so",
        "a/libnotes.so.txt",
    ]
    found = described(make_package("a", files=files), TABLE).libraries
    assert [(each.name, each.licence) for each in found] == [
        ("libother", "unknown"),
        ("UCX", "BSD-3-Clause"),
        ("x264", "GPL-2.0-or-later"),
    ]


def test_a_library_that_was_deleted_after_the_installation_is_not_there(make_package):
    made = make_package("a", files=["a.libs/libuct_ib.so"], absent=["a.libs/libuct_ib_mlx5_gda.so.0"])
    assert [each.file for each in described(made, TABLE).libraries] == ["libuct_ib.so"]


def test_what_the_wheel_itself_declares_is_listed_once_and_without_the_wheel(make_package):
    crate = {
        "type": "library",
        "name": "serde",
        "version": "1.0",
        "purl": "pkg:cargo/serde@1.0",
        "hashes": [],
    }
    made = make_package("A.b", sbom={"components": [crate, {"name": "a-b", "version": "1.0"}, crate]})
    package = described(made, TABLE)
    assert package.name == "a-b"
    assert package.declared == [{k: v for k, v in crate.items() if k != "hashes"}]
