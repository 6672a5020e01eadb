"""Reflection v1: lets `buf curl` and its like ask which services there are.

grpcio-reflection serves the older name v1alpha only. Both protocols are the same messages under another package, so
its servicer answers under either name; a client of v1 that is refused would fall back to v1alpha.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from steelyard.rpc.services import Registry

SERVICE_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def add_reflection(server: Registry, service_names: Iterable[str]) -> None:
    """Serves the descriptors of the named services, and of what they import."""
    # v1 itself has no descriptor in this installation, so it is not in the list it gives.
    servicer = ReflectionServicer([*service_names, SERVICE_NAMES[1]])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in SERVICE_NAMES:
        server.add_registered_method_handlers(name, {"ServerReflectionInfo": handler})
