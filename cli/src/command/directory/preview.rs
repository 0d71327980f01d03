//! `cairn preview`: what is not versioned, and by which rule.

use std::path::PathBuf;

use cairn_snapshot::directory::ignore::Reason;
use cairn_snapshot::directory::preview::{LeftOut, preview};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::live::walk_options;
use cairn_snapshot::repository::text::escape;
use cairn_types::FileKind;
use serde::Serialize;

use super::open;
use crate::command::Session;
use crate::failure::Failure;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Told {
    path: String,
    directory: bool,
    rule: Rule,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Rule {
    Control,
    Restore,
    Configuration {
        line: usize,
        pattern: String,
    },
    File {
        file: String,
        line: usize,
        pattern: String,
    },
    Other,
}

#[derive(Serialize)]
struct Summary {
    left_out: u64,
}

#[derive(Serialize)]
struct Summarized {
    summary: Summary,
}

pub(super) fn run(session: &mut Session, directory: Option<PathBuf>) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let watch = Watch::start(None)?;
    let mut count = 0;
    for left_out in preview(
        opened.repository.workspace(),
        walk_options(&opened.repository, &[])?,
    )? {
        if watch.progress().is_cancelled() {
            return Err(OperationError::Cancelled.into());
        }
        let left_out = left_out?;
        count += 1;
        session.output.put(&told(&left_out), || line(&left_out))?;
    }
    drop(watch);
    let summary = Summary { left_out: count };
    if session.output.is_json() {
        session.output.object(&Summarized { summary })?;
    } else if count == 0 {
        session.output.text("nothing is left out\n")?;
    }
    Ok(())
}

fn told(left_out: &LeftOut) -> Told {
    Told {
        path: escape(left_out.path.as_bytes()),
        directory: left_out.kind == FileKind::Directory,
        rule: match &left_out.reason {
            Reason::Control => Rule::Control,
            Reason::Restore => Rule::Restore,
            Reason::Configuration { line, pattern } => Rule::Configuration {
                line: *line,
                pattern: pattern.clone(),
            },
            Reason::File { file, line, pattern } => Rule::File {
                file: escape(file.as_bytes()),
                line: *line,
                pattern: pattern.clone(),
            },
            Reason::Rule => Rule::Other,
        },
    }
}

fn line(left_out: &LeftOut) -> String {
    let slash = match left_out.kind == FileKind::Directory {
        true => "/",
        false => "",
    };
    let rule = match &left_out.reason {
        Reason::Control => "the control directory".to_owned(),
        Reason::Restore => "a restore is prepared there".to_owned(),
        Reason::Configuration { line, pattern } => {
            format!("pattern {line} of config.toml: {}", text::line(pattern))
        }
        Reason::File { file, line, pattern } => {
            format!("{}:{line}: {}", text::path(file.as_bytes()), text::line(pattern))
        }
        Reason::Rule => "a rule".to_owned(),
    };
    format!("{}{slash}  ({rule})\n", text::path(left_out.path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use cairn_snapshot::directory::RelativePath;
    use cairn_snapshot::directory::ignore::Reason;
    use cairn_snapshot::directory::preview::LeftOut;
    use cairn_types::FileKind;

    use super::{line, told};

    #[test]
    fn rules_are_told_with_their_lines() {
        let left_out = LeftOut {
            path: RelativePath::new(b"a/\xff").unwrap(),
            kind: FileKind::Directory,
            reason: Reason::File {
                file: RelativePath::new(b"a/.jvsignore").unwrap(),
                line: 3,
                pattern: "*.o".to_owned(),
            },
        };
        assert_eq!(line(&left_out), "a/\\xff/  (a/.jvsignore:3: *.o)\n");
        assert_eq!(
            serde_json::to_string(&told(&left_out)).unwrap(),
            "{\"path\":\"a/%FF\",\"directory\":true,\"rule\":{\"kind\":\"file\",\"file\":\"a/.jvsignore\",\"line\":3,\"pattern\":\"*.o\"}}"
        );
    }
}
