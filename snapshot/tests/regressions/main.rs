//! What was found wrong in the Go tools named JVS, each fault with the test that it cannot come back by. Faults that other test programs show have their
//! tests there; this table names all of them.
//!
//! | fault of the Go tools | test |
//! | --- | --- |
//! | **Engines** | |
//! | a mount point is recognised by the first letters of a path | `engine::probe::mounts::whole_names_decide` |
//! | an engine that was asked for silently becomes a copy | `engines/probing.rs: what_is_asked_for_is_used_or_refused` |
//! | what a copy was degraded from is thrown away, the descriptor names what was asked for | [`data::the_descriptor_says_what_was_used_and_why`] |
//! | the capability of one directory stands for every pair | `engines/probing.rs: the_pair_decides_and_not_one_of_both` |
//! | a clone into a directory that was made before fails, and is a copy without a word | `engines/juicefs.rs: programs_that_fail_or_lie_are_found_out`, `a_clone_is_held_against_the_workspace` |
//! | a sync for every file | [`data::files_are_not_synced_one_by_one`] |
//! | every save reads all data, up to five times | [`data::a_save_reads_data_once_and_an_unchanged_one_none`] |
//! | forks always copy | [`data::a_fork_takes_no_room_where_data_can_be_shared`] |
//! | verifying copies the snapshot into the directory of temporary files | [`data::verifying_needs_no_room_elsewhere`] |
//! | nothing is shared between snapshots | `chunks/sharing.rs` |
//! | **What of a file is kept** | |
//! | modes pass through the umask; setuid, setgid and sticky bits are lost | [`metadata::modes_are_kept_whatever_the_umask`] |
//! | times of directories and symbolic links are lost | [`metadata::times_of_directories_and_links_are_kept`] |
//! | owners are lost | [`metadata::owners_are_kept`] |
//! | extended attributes and access control lists are lost | [`metadata::attributes_and_access_lists_are_kept`] |
//! | holes are written out | [`metadata::holes_stay_holes`] |
//! | hard links become files of their own | [`metadata::hard_links_stay_one_file`] |
//! | a fifo makes a save hang for ever | [`metadata::fifos_sockets_and_devices_are_not_opened`] |
//! | children of read-only directories cannot be copied | [`metadata::what_is_in_read_only_directories_is_kept`] |
//! | a dangling symbolic link makes the save fail | [`metadata::dangling_links_are_no_obstacle`] |
//! | what is claimed to be kept is not; what was lost is told nowhere | `directory/losing.rs: without_rights_what_is_lost_is_told` |
//! | the hash does not cover owners, times, special bits, attributes, links | `manifest::tests::order::the_tree_hash_covers_everything_but_stamps_and_chunks` |
//! | **Compression, parts, words** | |
//! | compressed snapshots are damaged by compressing: files of the user named `.gz` or `.READY` are changed, links and modes lost | [`data::names_of_the_go_tools_are_names_like_others`] |
//! | compressed snapshots are told to be tampered with | [`data::names_of_the_go_tools_are_names_like_others`] |
//! | a restore of a partial snapshot removes everything else | `operations/restoring.rs: a_partial_snapshot_holds_and_restores_its_paths_only` |
//! | names with two dots in them are refused as paths | [`data::two_dots_in_a_name_are_no_way_out`] |
//! | tags cannot be changed | `repository/naming.rs: labels_are_changed_after_the_fact` |
//! | a long note breaks the audit log for ever | `repository/audits.rs: long_notes_are_cut_and_break_nothing` |
//! | there are no rules of what is left out | `directory/ignoring.rs` |
//! | **Publishing and kills** | |
//! | a kill after the rename leaves a tree that is told to be tampered with, or a descriptor without a tree | `operations/kills.rs: a_save_that_is_killed_makes_a_whole_snapshot_or_none` |
//! | a kill before the head moves leaves a snapshot that no history has | [`repository::what_is_published_and_not_in_the_state_is_adopted`] |
//! | a snapshot that lost its data cannot be got rid of and blocks all collections | [`repository::one_damaged_snapshot_blocks_nothing`] |
//! | intents stay after failures and protect for ever | `operations/kills.rs`: the journal is empty after every kill |
//! | **Restoring** | |
//! | changes that no snapshot has are lost without a question | `operations/restoring.rs: what_no_snapshot_has_is_saved_before_it_is_replaced` |
//! | after a restore by path everything counts as changed | [`restoring::a_restored_part_is_no_change`] |
//! | the root is replaced: shells and mounts stay in what is deleted | [`restoring::who_is_in_the_workspace_stays_in_it`] |
//! | a workspace that is a mount point cannot be restored | [`restoring::a_workspace_that_is_a_mount_point_is_restored`] |
//! | two syncs for every entry | [`data::files_are_not_synced_one_by_one`] |
//! | what is staged lies beside the workspace, where nobody looks for it | [`restoring::nothing_is_left_beside_the_workspace`] |
//! | after a kill in the swap neither resume nor rollback work, and a save stores the half | `operations/kills.rs: a_restore_that_is_killed_is_undone_or_finished` |
//! | detached states refuse snapshots | [`restoring::an_old_state_can_be_saved`] |
//! | one entry that the workspace does not allow to be changed fails the rest | [`restoring::refused_steps_are_told_and_the_others_are_taken`] |
//! | **Locks** | |
//! | saves at the same time lose each other | `repository/leases.rs: eight_processes_all_get_their_turns`, `cli: saves_at_the_same_time_are_all_in_the_history` |
//! | the lock of a process that was killed stays | `repository/leases.rs: a_holder_is_named_and_a_dead_one_is_succeeded_at_once` |
//! | the lock of another host is never stale; nothing fences one that wakes up | `hosts/main.rs` |
//! | files that change while they are read are stored torn, and called verified | `engines/trees.rs: a_file_that_never_rests_is_told_torn` |
//! | a busy workspace can never be saved | `engines/trees.rs: a_tree_that_comes_and_goes_is_captured_all_the_same` |
//! | **Doctor and audit log** | |
//! | the doctor removes files of the user that are named as its own | [`repository::the_doctor_leaves_files_of_the_user_alone`] |
//! | the doctor removes what running operations work with | [`repository::the_doctor_waits_for_who_works`] |
//! | the doctor moves the head of who has restored an old snapshot | [`repository::the_doctor_leaves_the_head_where_it_is`] |
//! | a changed record is not noticed; one flipped byte blocks every save; a lost end is not noticed; each append reads all | `repository/audits.rs` |
//! | **Retention** | |
//! | a linear history is never pruned | [`retention::a_linear_history_is_pruned_and_stays_readable`] |
//! | the newest is not protected after an old one was restored | [`retention::the_newest_and_the_content_are_kept_after_a_restore_of_the_oldest`] |
//! | sizes are guessed | [`retention::a_plan_tells_real_sizes`] |
//! | a plan is carried out though the policy, the pins or the snapshots are others | [`retention::a_plan_is_for_what_it_was_made_of`] |
//! | plans stay for ever | [`retention::only_the_newest_plans_are_kept`] |
//! | views of sessions that died protect for ever | `repository/naming.rs: readers_are_seen_until_they_end` |
//! | tags and labels protect nothing; no policy is enforced | `repository::retention::tests` |
//! | a repeated request makes a second snapshot | `repository/naming.rs: a_repeated_request_gives_the_same_snapshot` |
//!
//! What holds for the Go tools and for Cairn: who can write to the control directory and computes all hashes anew is not found out. Keep it out of
//! the reach of whom you do not trust (`docs/operations/directories.md`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod data;
#[path = "../common/filesystems.rs"]
mod filesystems;
mod metadata;
#[path = "../operations/place.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod place;
#[path = "../directory/replica.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod replica;
mod repository;
mod restoring;
mod retention;
mod site;

/// Whether strace is there.
fn can_trace() -> bool {
    let there = std::process::Command::new("strace")
        .arg("-V")
        .stdout(std::process::Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("SKIPPED: there is no strace; `apt-get install strace`");
        assert!(std::env::var("CI").is_err(), "strace must be there");
    }
    there
}
