//! Which fields of a DittoServer cannot be honoured, each with what to do instead.

use cairn_crds::DittoServer;
use cairn_crds::conditions as types;

use super::Draft;
use crate::children::ditto::{DittoSettings, config, network_policy, stateful_set};
use crate::plan::ditto_server::shares;

/// What cannot be honoured, a sentence each.
pub fn unsupported(server: &DittoServer, settings: &DittoSettings) -> Vec<String> {
    let spec = &server.spec;
    let mut all = Vec::new();
    let (image, is_other) = stateful_set::image(server, settings);
    if is_other {
        all.push(format!(
            "image is one of DittoFS, which is not run: {image} is; remove the field or name an image of cairnd"
        ));
    }
    if !spec.snapshot_policies.is_empty() {
        all.push(
            "snapshotPolicies are not followed: no snapshots are taken; keep the data in a Workspace with autoSnapshot if you need them"
                .to_owned(),
        );
    }
    all.extend(config::stores(server).1);
    let Some(config) = &spec.config else {
        return all;
    };
    for share in &config.shares {
        let name = &share.name;
        let (workspace, is_own) = shares::workspace_name(share);
        if !is_own {
            all.push(format!(
                "exportPath {} of share {name} is not used: paths have one part of letters, digits, '.', '_' and '-'; it is served as /{workspace}",
                share.export_path
            ));
        }
        let in_bucket = share.content_store.as_ref().is_some_and(|store| {
            let mut backends = config.backends.iter();
            backends.any(|backend| {
                backend.name == *store && backend.type_ == cairn_crds::ditto_server::BackendType::S3
            })
        });
        if in_bucket {
            all.push(format!(
                "contentStore of share {name}: contents are in the claim, the bucket is only reached by `cairn push` in the pod"
            ));
        }
        if share
            .allowed_auth_methods
            .iter()
            .any(|method| !matches!(method.to_ascii_lowercase().as_str(), "unix" | "sys"))
        {
            all.push(format!(
                "allowedAuthMethods of share {name}: there is AUTH_SYS only (unix), and everybody else is refused"
            ));
        }
        if share.dump_restricted || !share.dump_allowed_clients.is_empty() {
            all.push(format!(
                "dumpAllowedClients of share {name} are not used: nobody is shown who has mounted it"
            ));
        }
        if let Err(why) = network_policy::clients(share, settings) {
            all.push(format!("share {name} is not served: {why}"));
        }
    }
    for cache in &config.caches {
        if cache.prefetch.is_some() || cache.flusher.is_some() {
            all.push(format!(
                "prefetch and flusher of cache {} are not used: the daemon decides both by itself",
                cache.name
            ));
        }
    }
    all
}

/// Says what is honoured. Answers whether anything may be changed at all.
pub(super) fn tell(draft: &mut Draft<'_>) -> bool {
    let server = draft.observed.server.as_ref();
    if server.spec.replicas > 1 {
        let message = format!(
            "spec.replicas is {}: further servers would not share their data, so nothing is changed; give 1, or 0 to stop the server, and make \
             more DittoServers for more servers",
            server.spec.replicas
        );
        draft.conditions.set(
            types::FIELDS_SUPPORTED,
            false,
            "ReplicasUnsupported",
            message.clone(),
        );
        draft
            .conditions
            .set(types::CONFIG_READY, false, "ReplicasUnsupported", message);
        return false;
    }
    let unsupported = unsupported(server, &draft.observed.settings);
    match unsupported.is_empty() {
        true => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            true,
            "AllSupported",
            "every field is honoured",
        ),
        false => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            false,
            "UnsupportedField",
            unsupported.join("; "),
        ),
    }
    if stateful_set::wanted_size(server).is_none() {
        draft.conditions.set(
            types::CONFIG_READY,
            false,
            "SizeInvalid",
            "spec.storage has sizes that are no quantities, or more than any volume has: give some such as 10Gi",
        );
        return false;
    }
    draft
        .conditions
        .set(types::CONFIG_READY, true, "Valid", "the configuration is valid");
    true
}
