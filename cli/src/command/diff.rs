//! `cairn diff`.

use cairn_api::{convert, proto};
use cairn_types::WorkspaceName;
use serde::Serialize;

use super::Session;
use crate::failure::Failure;
use crate::json::{self, DiffSummary};
use crate::progress::{Count, while_waiting};
use crate::text;

#[derive(Serialize)]
struct Summary<'a> {
    summary: &'a DiffSummary,
}

pub(super) async fn run(
    session: &mut Session,
    name: &WorkspaceName,
    from: String,
    to: Option<String>,
    stat: bool,
) -> Result<(), Failure> {
    let workspace = name.to_string();
    convert::reference(&from)?;
    to.as_deref().map(convert::reference).transpose()?;
    let mut client = session.connect().await?;
    let asking = client.snapshots.diff(proto::DiffRequest { workspace, from, to });
    let mut stream = while_waiting("comparing", asking).await?.into_inner();
    let mut summary = DiffSummary::default();
    // What is printed shows that something happens; a count is needed only where nothing is.
    let mut progress = stat.then(|| Count::start("differences so far"));
    while let Some(message) = while_waiting("comparing", stream.message()).await? {
        for difference in message.differences {
            summary.count(&difference);
            if !stat && session.output.is_json() {
                session.output.object(&json::Difference::from(difference))?;
            } else if !stat {
                session.output.text(&line(&difference))?;
            }
        }
        if let Some(progress) = &mut progress {
            progress.set(summary.total());
        }
    }
    drop(progress);
    if session.output.is_json() {
        session.output.object(&Summary { summary: &summary })?;
    } else if stat {
        session.output.text(&stat_text(&summary))?;
    }
    Ok(())
}

/// A difference on a line of its own.
pub(super) fn line(difference: &proto::Difference) -> String {
    let letter = match difference.kind() {
        proto::DifferenceKind::Added => 'A',
        proto::DifferenceKind::Removed => 'D',
        proto::DifferenceKind::Modified => 'M',
        proto::DifferenceKind::Retyped => 'T',
        proto::DifferenceKind::Attributes => 'P',
        proto::DifferenceKind::Unspecified => '?',
    };
    let slash = if difference.directory { "/" } else { "" };
    format!("{letter} {}{slash}\n", text::path(&difference.path))
}

/// What differs in numbers.
pub(super) fn stat_text(summary: &DiffSummary) -> String {
    let sizes = format!(
        "regular files among them: {} before, {} after\n",
        text::size(summary.bytes_before),
        text::size(summary.bytes_after)
    );
    format!(
        "{} differences: {} added, {} deleted, {} with other data, {} of another type, {} with other properties\n{sizes}",
        summary.total(),
        summary.added,
        summary.removed,
        summary.modified,
        summary.retyped,
        summary.attributes,
    )
}

#[cfg(test)]
mod tests {
    use cairn_api::proto;

    use super::{line, stat_text};
    use crate::json::DiffSummary;

    fn difference(kind: proto::DifferenceKind, path: &[u8], directory: bool) -> proto::Difference {
        proto::Difference {
            kind: kind.into(),
            path: path.to_vec(),
            directory,
            bytes_before: None,
            bytes_after: Some(1024),
        }
    }

    #[test]
    fn each_kind_has_a_letter() {
        for (kind, path, directory, expected) in [
            (proto::DifferenceKind::Added, &b"a/b"[..], true, "A a/b/\n"),
            (proto::DifferenceKind::Removed, b"x\ny", false, "D x\\ny\n"),
            (proto::DifferenceKind::Modified, b"m\xff", false, "M m\\xff\n"),
            (proto::DifferenceKind::Retyped, b"t", false, "T t\n"),
            (proto::DifferenceKind::Attributes, b"p", false, "P p\n"),
        ] {
            assert_eq!(line(&difference(kind, path, directory)), expected);
        }
    }

    #[test]
    fn the_summary_counts() {
        let mut summary = DiffSummary::default();
        summary.count(&difference(proto::DifferenceKind::Added, b"a", false));
        summary.count(&difference(proto::DifferenceKind::Added, b"b", false));
        summary.count(&difference(proto::DifferenceKind::Attributes, b"c", false));
        assert_eq!((summary.total(), summary.added, summary.attributes), (3, 2, 1));
        assert_eq!(
            stat_text(&summary),
            "3 differences: 2 added, 0 deleted, 0 with other data, 0 of another type, 1 with other properties\n\
             regular files among them: 0 B before, 3.0 KiB after\n"
        );
    }
}
