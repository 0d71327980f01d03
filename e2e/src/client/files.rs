//! Whole files: reading them, and writing them so that they are durable whatever the server does meanwhile.

use super::procedures::Stability;
use super::{Client, ClientError, Handle};
use crate::parallel;

/// Bytes of one READ or WRITE, which every server that is tested accepts.
pub const TRANSFER_BYTES: u32 = 1 << 20;
/// READs or WRITEs of one file that are in flight at the same time.
const TRANSFERS_IN_FLIGHT: usize = 6;
/// Most times that a file's data is sent again because the server lost what was not committed.
const RESENDS_MAX: usize = 20;

/// A run of a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First byte.
    pub offset: u64,
    /// Bytes, at most [`TRANSFER_BYTES`].
    pub length: u32,
}

/// Cuts `offset..end` into runs of at most [`TRANSFER_BYTES`] that end on multiples of it.
pub fn runs(offset: u64, end: u64) -> Vec<Run> {
    let step = u64::from(TRANSFER_BYTES);
    let mut runs = Vec::new();
    let mut at = offset;
    while at < end {
        let until = ((at / step + 1) * step).min(end);
        runs.push(Run {
            offset: at,
            length: (until - at) as u32,
        });
        at = until;
    }
    runs
}

impl Client {
    /// Reads exactly `length` bytes. A file that ends before is an error.
    pub async fn read_exact(&self, file: &Handle, offset: u64, length: u32) -> Result<Vec<u8>, ClientError> {
        let mut data = Vec::new();
        while data.len() < length as usize {
            let rest = length - data.len() as u32;
            let (piece, end) = self.read(file, offset + data.len() as u64, rest).await?;
            if piece.is_empty() || (end && piece.len() < rest as usize) {
                let what = format!(
                    "file ends {} bytes after {offset} instead of {length}",
                    data.len() + piece.len()
                );
                return Err(ClientError::Protocol {
                    procedure: "READ",
                    what,
                });
            }
            match data.is_empty() {
                true => data = piece,
                false => data.extend(piece),
            }
        }
        Ok(data)
    }

    /// Reads from the start to the end of the file.
    pub async fn read_all(&self, file: &Handle) -> Result<Vec<u8>, ClientError> {
        let mut data = Vec::new();
        loop {
            let (piece, end) = self.read(file, data.len() as u64, TRANSFER_BYTES).await?;
            if piece.is_empty() && !end {
                let what = "no bytes, and not the end".to_owned();
                return Err(ClientError::Protocol {
                    procedure: "READ",
                    what,
                });
            }
            data.extend(piece);
            if end {
                return Ok(data);
            }
        }
    }

    /// Writes all of `data` and returns the verifiers of the replies that are not durable.
    async fn write_run(
        &self,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stable: Stability,
    ) -> Result<Vec<[u8; 8]>, ClientError> {
        let mut verifiers = Vec::new();
        let mut done = 0;
        while done < data.len() {
            let written = self
                .write(file, offset + done as u64, &data[done..], stable)
                .await?;
            done += written.count as usize;
            if written.stability != Stability::FILE_SYNC {
                verifiers.push(written.verifier);
            }
        }
        Ok(verifiers)
    }

    /// Writes `runs` of a file with the data that `source` gives for each; durable on return. Data that the server lost
    /// between WRITE and COMMIT, which it tells by another verifier, is sent again (RFC 1813 section 3.3.21).
    pub async fn write_runs<S>(&self, file: &Handle, runs: &[Run], source: S) -> Result<(), ClientError>
    where
        S: Fn(Run) -> std::io::Result<Vec<u8>> + Sync,
    {
        let read = |run| {
            source(run).map_err(|error| ClientError::Protocol {
                procedure: "WRITE",
                what: error.to_string(),
            })
        };
        if let [run] = runs {
            self.write_run(file, run.offset, &read(*run)?, Stability::FILE_SYNC)
                .await?;
            return Ok(());
        }
        for _ in 0..RESENDS_MAX {
            let verifiers = parallel::map(TRANSFERS_IN_FLIGHT, runs, |run: &Run| {
                let (run, read) = (*run, &read);
                async move {
                    self.write_run(file, run.offset, &read(run)?, Stability::UNSTABLE)
                        .await
                }
            })
            .await?;
            let (committed, _) = self.commit(file).await?;
            if verifiers.iter().flatten().all(|verifier| *verifier == committed) {
                return Ok(());
            }
        }
        let what = format!("the write verifier changed {RESENDS_MAX} times");
        Err(ClientError::Protocol {
            procedure: "COMMIT",
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, TRANSFER_BYTES, runs};

    #[test]
    fn runs_cover_everything_once() {
        let step = u64::from(TRANSFER_BYTES);
        assert_eq!(runs(5, 5), []);
        assert_eq!(runs(0, 3), [Run { offset: 0, length: 3 }]);
        let cut = runs(step - 1, 2 * step + 1);
        assert_eq!(
            cut.iter().map(|run| run.length).collect::<Vec<_>>(),
            [1, TRANSFER_BYTES, 1]
        );
        assert_eq!(cut.last().map(|run| run.offset), Some(2 * step));
    }
}
