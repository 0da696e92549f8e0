"""`python -m scripts.proto_texts DESCRIPTORS FILE`: writes the comments of messages' fields as JSON:
{message: {field: text}}.

DESCRIPTORS: a FileDescriptorSet of protoc with source information. The gateway's description of REST takes
these texts for the fields that gRPC has too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

PUBLIC = ("chat", "generation", "models", "sampling")
"""Files with the messages of clients."""
_MESSAGE = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_FIELD = DescriptorProto.FIELD_FIELD_NUMBER


def texts(files: FileDescriptorSet) -> dict[str, dict[str, str]]:
    """The comments, by message and field, in the order of the files."""
    public = {f"perigee/v1/{name}.proto" for name in PUBLIC}
    found: dict[str, dict[str, str]] = {}
    for file in files.file:
        if file.name in public:
            for message, field, text in _of_file(file):
                found.setdefault(message, {})[field] = text
    return found


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str, str]]:
    for location in file.source_code_info.location:
        path = tuple(location.path)
        if len(path) == 4 and path[0] == _MESSAGE and path[2] == _FIELD:
            message = file.message_type[path[1]]
            yield message.name, message.field[path[3]].name, " ".join(location.leading_comments.split())


def main(source: str, target: str) -> None:
    """Writes the file."""
    found = texts(FileDescriptorSet.FromString(Path(source).read_bytes()))
    Path(target).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
