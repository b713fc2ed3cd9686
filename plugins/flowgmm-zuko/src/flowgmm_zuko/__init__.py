"""The flows of zuko as flow architectures of flowgmm."""
