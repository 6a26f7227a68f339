#!/bin/sh
# Generates concordat/ from the published protos, with the pinned generator:
#   pip install -r requirements.txt -r requirements-generate.txt && ./generate.sh
set -eu
cd "$(dirname "$0")"
python3 -m grpc_tools.protoc -I ../../../rpc/proto --python_out="${1:-.}" --grpc_python_out="${1:-.}" \
	concordat/v1/types.proto concordat/v1/participant.proto concordat/v1/coordinator.proto
