//! The URL of a store as a request or the configuration gives it.

use cairn_api::{ApiError, Reason};
use cairn_content::objects::ObjectStoreUrl;

/// Checks a URL. A store in memory is refused: it would be gone with the process, and archives are there to stay.
/// Fails with [`Reason::StoreUrlInvalid`]; the text itself is not repeated beyond what is known to hold no secret.
pub fn parse(text: &str) -> Result<ObjectStoreUrl, ApiError> {
    let invalid = |message: String| {
        ApiError::new(Reason::StoreUrlInvalid, message).remedy(
            "give file:///absolute/directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; endpoints \
             and credentials stand in the tables [[store]] of cairnd's configuration",
        )
    };
    let url = ObjectStoreUrl::parse(text).map_err(|error| invalid(error.to_string()))?;
    match url.as_str().starts_with("memory:") {
        true => Err(invalid(
            "a store in memory keeps nothing when cairnd stops".to_owned(),
        )),
        false => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;

    use super::parse;

    #[test]
    fn urls_are_checked_and_secrets_not_repeated() {
        assert_eq!(parse("s3://b/p/").unwrap().as_str(), "s3://b/p");
        for wrong in [
            "",
            "b",
            "/srv",
            "ftp://h/x",
            "file:srv",
            "s3://",
            "memory://",
            "s3://a:hunter2@b",
            "az://b?s=hunter2",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.reason, Reason::StoreUrlInvalid, "{wrong}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
