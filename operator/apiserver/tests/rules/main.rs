//! The rules of a Kubernetes API server, each a test of its own. They are held against the server of this crate, one by
//! one, and all together against a real kube-apiserver with etcd when `KUBEBUILDER_ASSETS` names the directory that has
//! them (`xtask/scripts/kubebuilder-assets.sh` builds them).
//!
//! What only the server of this crate has (faults, stand-ins, counting) is in `own`; `kubectl` is in `kubectl`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests fail by panicking, and a rule owns its cluster"
)]

mod applying;
mod backend;
mod clients;
mod deleting;
mod kinds;
mod kubectl;
mod objects;
mod own;
mod reading;
mod schemas;

use std::{future::Future, pin::Pin};

use backend::Backend;

type Rule = fn(Backend) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a test of every rule, and a list of all.
macro_rules! rules {
    ($($module:ident { $($rule:ident),* $(,)? })*) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $rule() {
                super::super::$module::$rule(super::super::Backend::fake().await).await;
            })*
        })*

        pub fn all() -> Vec<(&'static str, super::Rule)> {
            vec![$($((stringify!($rule), |backend| Box::pin(super::$module::$rule(backend))),)*)*]
        }
    };
}

mod in_process {
    rules! {
        objects {
            a_new_object_gets_uid_time_version_and_generation,
            versions_grow_across_all_kinds,
            a_write_that_changes_nothing_keeps_the_version,
            generation_counts_changes_of_spec_only,
            generation_counts_the_first_deletion_mark,
            status_and_spec_are_written_apart,
            an_old_version_is_a_conflict,
            a_custom_resource_is_replaced_only_on_a_version,
            another_uid_is_a_conflict,
            names_are_unique_and_valid,
            a_name_is_generated_from_a_prefix,
            body_and_path_name_the_same_object,
            namespaces_must_exist,
            a_json_patch_tests_an_absent_path_against_null,
            a_merge_patch_removes_by_null_and_replaces_lists,
            a_strategic_patch_merges_lists_of_built_in_kinds_only,
            a_dry_run_stores_nothing,
            metadata_is_checked,
        }
        applying {
            an_applier_owns_what_it_applies,
            lists_merge_by_their_keys,
            a_field_of_another_manager_is_a_conflict,
            a_field_of_an_updater_is_a_conflict,
            force_takes_fields_over,
            fields_without_an_owner_are_removed,
            fields_of_updaters_stay,
            applying_the_same_again_writes_nothing,
            status_is_applied_and_owned_apart,
            status_is_not_applied_to_nothing,
            an_application_is_well_formed,
            an_update_takes_what_it_changes,
            fields_from_before_the_first_apply_are_a_conflict,
            built_in_lists_merge_by_their_keys,
            the_claim_of_a_volume_is_owned_by_field,
        }
        schemas {
            unknown_fields_are_dropped_with_a_warning,
            strict_validation_refuses_unknown_fields,
            defaults_are_filled_in,
            null_is_absent,
            violations_are_told_by_field,
            rules_compare_with_the_old_value,
            unchanged_fields_are_ratcheted,
            a_wrong_definition_is_refused,
            a_definition_is_served,
            versions_of_a_definition_share_their_objects,
        }
        reading {
            pages_are_of_one_state,
            lists_of_other_states_are_refused,
            a_list_of_an_exact_version_is_that_state,
            labels_select,
            selectable_fields_select,
            a_watch_tells_what_happened_after_its_version,
            a_watch_without_a_version_begins_with_what_there_is,
            a_streaming_list_ends_with_a_bookmark,
            a_watch_of_a_version_that_is_gone_is_told_so,
            a_watch_with_a_selector_tells_of_coming_and_going,
            a_watch_ends_at_its_time,
            lists_come_as_metadata_and_as_tables,
            a_list_of_all_namespaces_has_all,
        }
        deleting {
            without_finalizers_an_object_is_gone_at_once,
            with_finalizers_it_is_marked_and_goes_with_the_last,
            no_finalizer_is_added_to_what_is_being_deleted,
            a_deletion_can_be_bound_to_uid_and_version,
            propagation_is_kept_as_a_finalizer,
            a_collection_goes_by_selector,
            a_namespace_that_is_being_deleted_takes_nothing_new,
        }
        kinds {
            sets_of_pods_have_their_defaults,
            a_creation_owns_what_it_sets,
            services_get_an_address_that_stays,
            what_is_fixed_cannot_be_changed,
            claims_and_volumes_are_protected_and_fixed,
            other_kinds_have_their_defaults,
            a_lease_is_taken_by_whoever_writes_first,
            events_of_both_groups_are_the_same,
            incomplete_objects_are_refused,
            quantities_are_written_in_one_way,
            what_is_not_served_is_not_found,
            wrong_types_are_refused,
        }
    }
}

/// All rules against a real server, if there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_keeps_the_same_rules() {
    use cairn_apiserver::real;
    let Some(assets) = real::assets_for("a_real_server_keeps_the_same_rules").unwrap() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let server = real::RealServer::start(&assets, directory.path()).await.unwrap();
    let mut config = kube::Config::new(server.url().parse().unwrap());
    config.root_cert = Some(vec![pem(server.authority())]);
    // A refusal is to be seen, not tried again.
    config.default_retry = false;
    config.auth_info.token = Some(server.token().to_owned().into());
    let client = kube::Client::try_from(config).unwrap();
    let only = std::env::var("RULE").unwrap_or_default();
    let mut failed = Vec::new();
    for (index, (name, rule)) in in_process::all().into_iter().enumerate() {
        if !name.contains(&only) {
            continue;
        }
        let backend = Backend::real(client.clone(), &format!("rule-{index}")).await;
        if let Err(error) = tokio::spawn(rule(backend)).await {
            assert!(error.is_panic(), "{name}: {error}");
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "a real server does not keep: {failed:#?}");
}

/// The bytes of the one certificate in a PEM text.
fn pem(text: &str) -> Vec<u8> {
    use base64::Engine;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}
