//! What the server fills into objects of some kinds by itself, from what else there is.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::Cluster;
use crate::{
    kinds::Kind,
    object::{at, child_mut, text},
    status::{Cause, Failure},
};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

impl Cluster {
    /// On creation: addresses of Services, the default class of claims.
    pub(super) fn admit(&mut self, kind: &Kind, object: &mut Value) -> Result<(), Failure> {
        match kind.kind.as_str() {
            "Service" => self.service_address(kind, object),
            "PersistentVolumeClaim" => {
                if at(object, &["spec", "storageClassName"]).is_none() {
                    let class = self
                        .store
                        .list("storageclasses.storage.k8s.io", None)
                        .into_iter()
                        .find(|class| {
                            at(class, &["metadata", "annotations", DEFAULT_CLASS]) == Some(&json!("true"))
                        });
                    if let Some(class) = class {
                        child_mut(object, "spec")
                            .insert("storageClassName".to_owned(), json!(crate::object::name(&class)));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// On updates: what was allocated stays when the client leaves it out.
    pub(super) fn admit_update(&mut self, kind: &Kind, live: &Value, new: &mut Value) {
        if kind.kind != "Service" || text(new, &["spec", "type"]) == "ExternalName" {
            return;
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = at(live, &["spec", field])
                && at(new, &["spec", field]).is_none()
            {
                child_mut(new, "spec").insert(field.to_owned(), value.clone());
            }
        }
    }

    fn service_address(&mut self, kind: &Kind, object: &mut Value) -> Result<(), Failure> {
        if text(object, &["spec", "type"]) == "ExternalName" {
            return Ok(());
        }
        let given = text(object, &["spec", "clusterIP"]).to_owned();
        let address = match given.as_str() {
            "None" => "None".to_owned(),
            "" => self
                .addresses
                .allocate()
                .ok_or_else(|| Failure::Internal {
                    code: 500,
                    message: "range is full".to_owned(),
                })?
                .to_string(),
            given => {
                let taken = given
                    .parse::<Ipv4Addr>()
                    .is_ok_and(|address| self.addresses.take(address));
                if !taken {
                    let cause = Cause {
                        reason: "FieldValueInvalid",
                        message: format!(
                            "Invalid value: [\"{given}\"]: failed to allocate IP {given}: provided IP is already allocated, or not in the valid range"
                        ),
                        field: "spec.clusterIPs".to_owned(),
                    };
                    return Err(Failure::invalid(
                        "",
                        &kind.kind,
                        crate::object::name(object),
                        vec![cause],
                    ));
                }
                given.to_owned()
            }
        };
        let spec = child_mut(object, "spec");
        spec.insert("clusterIP".to_owned(), json!(address));
        spec.insert("clusterIPs".to_owned(), json!([address]));
        spec.insert("ipFamilies".to_owned(), json!(["IPv4"]));
        spec.insert("ipFamilyPolicy".to_owned(), json!("SingleStack"));
        Ok(())
    }
}
