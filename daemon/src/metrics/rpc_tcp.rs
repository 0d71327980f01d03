//! The numbers of RPC over TCP.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::gauge;
use crate::rpc::tcp::TcpMetrics;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, metrics: &TcpMetrics) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "rpc_tcp_connections",
        "RPC connections over TCP now",
        metrics.open().cast_signed(),
    )?;
    let counters = [
        (
            "rpc_tcp_accepted",
            "RPC connections over TCP that came through the handshake",
            metrics.accepted(),
        ),
        (
            "rpc_tcp_refused",
            "RPC connections over TCP that did not come through the handshake",
            metrics.refused(),
        ),
        (
            "rpc_tcp_denied",
            "Requests over TCP by clients whose certificate has no name that may use the service",
            metrics.denied(),
        ),
        (
            "rpc_tcp_certificates_read",
            "Changes of the certificate files that came into force",
            metrics.certificates_read(),
        ),
        (
            "rpc_tcp_certificates_unusable",
            "Changes of the certificate files that could not be used",
            metrics.certificates_unusable(),
        ),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    })
}
