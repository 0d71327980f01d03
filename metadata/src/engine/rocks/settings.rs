//! The settings of the store, and what they and our fixed choices come to in RocksDB's options.

use std::ops::RangeInclusive;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DataBlockIndexType,
    InfoLogger, LogLevel, Options,
};

use super::super::EngineError;

/// Bounds of [`RocksSettings::block_cache_bytes`].
const BLOCK_CACHE_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Bounds of [`RocksSettings::write_buffer_bytes`].
const WRITE_BUFFER_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Bounds of [`RocksSettings::write_buffers`].
const WRITE_BUFFERS: RangeInclusive<u64> = 2..=16;
/// Bounds of [`RocksSettings::background_jobs`].
const BACKGROUND_JOBS: RangeInclusive<u64> = 2..=64;
/// Bounds of [`RocksSettings::recycled_logs`].
const RECYCLED_LOGS: RangeInclusive<u64> = 0..=16;
/// Bounds of [`RocksSettings::space_reserve_bytes`].
const SPACE_RESERVE_BYTES: RangeInclusive<u64> = 0..=1 << 40;

/// Bytes of a data block before compression. Smaller than RocksDB's usual advice because most reads are of single
/// small records, and the cache is small.
const BLOCK_BYTES: usize = 8 << 10;
/// Bits of the Bloom filter for each key: about one false positive in a hundred.
const BLOOM_BITS: f64 = 10.0;
/// Bytes of table files written between two write-backs, so that the sync at a file's end is short.
const BYTES_PER_SYNC: u64 = 1 << 20;

/// How the store uses memory, processors and disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksSettings {
    /// Bytes of memory for blocks read from disk. Default 32 MiB; 1 MiB to 1 TiB.
    pub block_cache_bytes: u64,
    /// Bytes of memory for writes before they are written to a table file. Default 16 MiB; 64 KiB to 1 GiB.
    pub write_buffer_bytes: u64,
    /// Write buffers in memory at most: one is written to, the others are on their way to disk. Default 3; 2 to 16.
    /// Their sum bounds the WAL, and with it the time that recovery takes.
    pub write_buffers: u64,
    /// Threads for flushes and compactions. Default 2; 2 to 64.
    pub background_jobs: u64,
    /// Old WAL files kept to be written over. Their blocks are allocated already, so that a sync need not also write
    /// the file system's journal. Default 2; 0 to 16.
    pub recycled_logs: u64,
    /// Bytes of the file system that writes leave free for flushes and compactions; an eighth of the file system if that
    /// is less. Writes that remove keys may use three quarters of them. Default 64 MiB; 0 to 1 TiB.
    pub space_reserve_bytes: u64,
}

impl Default for RocksSettings {
    fn default() -> Self {
        RocksSettings {
            block_cache_bytes: 32 << 20,
            write_buffer_bytes: 16 << 20,
            write_buffers: 3,
            background_jobs: 2,
            recycled_logs: 2,
            space_reserve_bytes: 64 << 20,
        }
    }
}

impl RocksSettings {
    /// Refuses values out of bounds.
    ///
    /// # Errors
    /// [`EngineError::InvalidSetting`] about the first one.
    pub fn check(&self) -> Result<(), EngineError> {
        let bounds = [
            ("block_cache_bytes", self.block_cache_bytes, BLOCK_CACHE_BYTES),
            ("write_buffer_bytes", self.write_buffer_bytes, WRITE_BUFFER_BYTES),
            ("write_buffers", self.write_buffers, WRITE_BUFFERS),
            ("background_jobs", self.background_jobs, BACKGROUND_JOBS),
            ("recycled_logs", self.recycled_logs, RECYCLED_LOGS),
            (
                "space_reserve_bytes",
                self.space_reserve_bytes,
                SPACE_RESERVE_BYTES,
            ),
        ];
        for (name, found, allowed) in bounds {
            if !allowed.contains(&found) {
                let (least, most) = allowed.into_inner();
                return Err(EngineError::InvalidSetting {
                    name,
                    found,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }

    /// RocksDB's options. The settings are within their bounds.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        // Damage is found when it is read, and stops writes.
        options.set_paranoid_checks(true);

        // Replay ends at the first damaged record, never skips one. The other mode that leaves no gaps
        // (TolerateCorruptedTailRecords) cannot be combined with recycled files, and after a power cut it can refuse to
        // open: blocks of an unsynced tail reach the disk in any order.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_recycle_log_file_num(to_usize(self.recycled_logs));
        // A whole WAL file that has gone missing or is too short is an error, not an early end of the replay.
        options.set_track_and_verify_wals_in_manifest(true);

        options.set_write_buffer_size(to_usize(self.write_buffer_bytes));
        options.set_max_write_buffer_number(to_c_int(self.write_buffers));
        options.set_max_background_jobs(to_c_int(self.background_jobs));
        options.set_bytes_per_sync(BYTES_PER_SYNC);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&self.tables());

        // RocksDB's own messages go the way of all others, so the store's directory collects no log files.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, forward_message));
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    fn tables(&self) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(to_usize(self.block_cache_bytes)));
        tables.set_block_size(BLOCK_BYTES);
        tables.set_bloom_filter(BLOOM_BITS, false);
        tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        // Index and filter of a table file of 64 MiB are about 1 MiB. They are in the cache, so that memory is bounded
        // whatever the store's size, and in parts, so that a miss reads one part and displaces no more.
        // (Whole, with 800,000 records and the default cache, a random read took ten times the processor time.)
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        tables.set_partition_filters(true);
        tables.set_pin_top_level_index_and_filter(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        tables
    }
}

fn forward_message(level: LogLevel, message: &str) {
    match level {
        LogLevel::Warn | LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(target: "rocksdb", "{}", message.trim_end());
        }
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {}
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("the bounds of the settings fit the address space")
}

fn to_c_int(value: u64) -> i32 {
    i32::try_from(value).expect("the bounds of the settings fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds() {
        assert!(RocksSettings::default().check().is_ok());
    }

    #[test]
    fn a_value_out_of_bounds_is_named() {
        let settings = RocksSettings {
            write_buffers: 1,
            ..RocksSettings::default()
        };
        let refused = settings.check().unwrap_err();
        assert_eq!(refused.to_string(), "write_buffers is 1: it must be from 2 to 16");
    }
}
