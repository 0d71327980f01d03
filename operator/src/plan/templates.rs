//! The templates of snapshots: what note and tags each gives. They mean the same for every backing, so the operator fills them in itself.

use cairn_crds::workspace::Template;

/// Note and tags of a template.
pub fn template(template: Template) -> (&'static str, &'static [&'static str]) {
    match template {
        Template::PreExperiment => ("Before an experiment", &["experiment", "checkpoint"]),
        Template::PreDeploy => ("Before a deployment", &["pre-deploy", "release"]),
        Template::Checkpoint => ("Checkpoint", &["checkpoint"]),
        Template::Work => ("Work in progress", &["wip"]),
        Template::Release => ("Release", &["release", "stable"]),
        Template::Archive => ("Archive", &["archive"]),
    }
}

/// The note and the tags of a snapshot: its own, and those of its template, each tag once.
pub fn fill(note: Option<&str>, tags: &[String], of: Option<Template>) -> (String, Vec<String>) {
    let (default_note, more) = of.map(template).unwrap_or(("", &[]));
    let note = note.filter(|note| !note.is_empty()).unwrap_or(default_note);
    let mut all = tags.to_vec();
    for tag in more {
        if !all.iter().any(|known| known == tag) {
            all.push((*tag).to_owned());
        }
    }
    (note.to_owned(), all)
}

#[cfg(test)]
mod tests {
    use cairn_crds::workspace::Template;

    use super::fill;

    #[test]
    fn own_words_come_first() {
        let tags = ["stable".to_owned(), "v1".to_owned()];
        assert_eq!(
            fill(Some("mine"), &tags, Some(Template::Release)),
            (
                "mine".to_owned(),
                vec!["stable".into(), "v1".into(), "release".into()]
            )
        );
        assert_eq!(fill(None, &[], None), (String::new(), Vec::new()));
        assert_eq!(fill(Some(""), &[], Some(Template::Work)).0, "Work in progress");
    }
}
