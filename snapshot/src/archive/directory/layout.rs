//! Where in a file its runs are. Runs stand side by side over everything that is no hole: a hole takes none, however large it is.

use cairn_content::pipeline::Run;

use crate::directory::FileBody;

/// The runs of a file, each with the offset of its first byte. A hole that begins within a run (which no capture makes) lies behind it.
pub fn layout(file: &FileBody) -> impl Iterator<Item = (u64, Run)> + '_ {
    let mut holes = file.holes.iter().peekable();
    let mut next = 0u64;
    file.runs.iter().map(move |run| {
        while let Some(hole) = holes.next_if(|hole| hole.offset <= next) {
            next = next.max(hole.offset.saturating_add(hole.length));
        }
        let at = next;
        next = at.saturating_add(u64::from(run.length()));
        (at, *run)
    })
}

/// Whether the runs of a file of `size` bytes stand exactly over what is no hole.
pub fn is_whole(file: &FileBody, size: u64) -> bool {
    let mut holes = file.holes.iter().peekable();
    let mut next = 0u64;
    for run in &file.runs {
        while let Some(hole) = holes.next_if(|hole| hole.offset <= next) {
            next = next.max(hole.offset.saturating_add(hole.length));
        }
        let end = next.saturating_add(u64::from(run.length()));
        if holes.peek().is_some_and(|hole| hole.offset < end) {
            return false;
        }
        next = end;
    }
    for hole in holes {
        if hole.offset != next {
            return false;
        }
        next = next.saturating_add(hole.length);
    }
    next == size
}

#[cfg(test)]
mod tests {
    use cairn_content::pipeline::Run;
    use cairn_types::ChunkId;

    use super::{is_whole, layout};
    use crate::directory::{FileBody, Hole};

    fn hole(offset: u64, length: u64) -> Hole {
        Hole { offset, length }
    }

    #[test]
    fn runs_stand_between_holes() {
        let chunk = |length| Run::Chunk(ChunkId([1; 32]), length);
        let file = FileBody {
            digest: None,
            holes: vec![hole(0, 4096), hole(12_288, 1 << 40)],
            runs: vec![chunk(8000), Run::Zeros(192), chunk(7)],
        };
        let offsets: Vec<u64> = layout(&file).map(|(at, _)| at).collect();
        let tail = 12_288 + (1 << 40);
        assert_eq!(offsets, [4096, 12_096, tail]);
        assert!(is_whole(&file, tail + 7));
        assert!(!is_whole(&file, tail + 8) && !is_whole(&file, tail));
        let across = FileBody {
            runs: vec![chunk(8193)],
            ..file
        };
        assert!(!is_whole(&across, 12_289));
        assert!(is_whole(&FileBody::default(), 0) && !is_whole(&FileBody::default(), 1));
        let only_hole = FileBody {
            holes: vec![hole(0, 9000)],
            ..FileBody::default()
        };
        assert!(is_whole(&only_hole, 9000));
    }
}
