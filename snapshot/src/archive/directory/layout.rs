//! Where in a file its runs are: side by side from the beginning to the end, holes too.

use cairn_content::pipeline::Run;

use crate::directory::FileBody;

/// The runs of a file, each with the offset of its first byte.
pub fn layout(file: &FileBody) -> impl Iterator<Item = (u64, Run)> + '_ {
    let mut next = 0u64;
    file.runs.iter().map(move |run| {
        let at = next;
        next = at.saturating_add(u64::from(run.length()));
        (at, *run)
    })
}

/// Whether the runs of a file of `size` bytes are all of it.
pub fn is_whole(file: &FileBody, size: u64) -> bool {
    let end = layout(file).last();
    end.map_or(0, |(at, run)| at.saturating_add(u64::from(run.length()))) == size
}

#[cfg(test)]
mod tests {
    use cairn_content::pipeline::Run;
    use cairn_types::ChunkId;

    use super::{is_whole, layout};
    use crate::directory::FileBody;

    #[test]
    fn runs_stand_side_by_side() {
        let chunk = |length| Run::Chunk(ChunkId([1; 32]), length);
        let file = FileBody {
            runs: vec![chunk(8000), Run::Zeros(192), chunk(7)],
            ..FileBody::default()
        };
        let offsets: Vec<u64> = layout(&file).map(|(at, _)| at).collect();
        assert_eq!(offsets, [0, 8000, 8192]);
        assert!(is_whole(&file, 8199));
        assert!(!is_whole(&file, 8200) && !is_whole(&file, 8192));
        assert!(is_whole(&FileBody::default(), 0) && !is_whole(&FileBody::default(), 1));
    }
}
