//! Cluster addresses of Services, from a range that is large enough for any test.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::Value;

use crate::object::text;

/// 10.96.0.0/16, as `kubeadm` has it.
const FIRST: u32 = 0x0a60_0001;
const LAST: u32 = 0x0a60_fffe;

/// The addresses in use.
#[derive(Debug, Default)]
pub struct Addresses {
    used: BTreeSet<u32>,
    next: u32,
}

impl Addresses {
    /// A free address, or none if all are in use.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let span = LAST - FIRST + 1;
        for step in 0..span {
            let candidate = FIRST + (self.next + step) % span;
            if self.used.insert(candidate) {
                self.next = candidate - FIRST + 1;
                return Some(Ipv4Addr::from(candidate));
            }
        }
        None
    }

    /// Takes a given address; false if it is in use or out of the range.
    pub fn take(&mut self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        (FIRST..=LAST).contains(&address) && self.used.insert(address)
    }

    /// Gives back the address of a Service.
    pub fn release(&mut self, service: &Value) {
        if let Ok(address) = text(service, &["spec", "clusterIP"]).parse::<Ipv4Addr>() {
            self.used.remove(&u32::from(address));
        }
    }
}
