//! The generated code of package `cairn.v1`. The protobuf files document it.
#![allow(missing_docs)]
#![allow(clippy::all)]

tonic::include_proto!("cairn.v1");
