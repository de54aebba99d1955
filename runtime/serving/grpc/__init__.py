"""gRPC: grpcio's server and the native front, the Open Inference Protocol over either, health and reflection."""
