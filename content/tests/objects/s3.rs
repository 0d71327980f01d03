//! What is particular about S3, against a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cairn_content::objects::{Credentials, ObjectError, ObjectOptions, ObjectStoreUrl, Objects};
use cairn_types::ErrorKind;

use super::server::{Answer, BUCKET, SECRET_KEY, Server, cutting};
use super::{MIB, Random, conformance, name, open, options, pattern};

const ATTEMPTS: u32 = 3;

fn s3_options(server: &Server) -> ObjectOptions {
    let path = server.root.path().join("credentials");
    if !path.exists() {
        Server::credentials(&path, SECRET_KEY);
    }
    ObjectOptions {
        endpoint: Some(server.endpoint.clone()),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        attempts_max: ATTEMPTS,
        request_timeout: Duration::from_secs(20),
        backoff_start: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        credentials: Credentials::File {
            path,
            profile: "default".to_owned(),
        },
        ..options()
    }
}

fn open_s3(server: &Server) -> Objects {
    open(&format!("s3://{BUCKET}/prefix"), s3_options(server))
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let server = Server::start().await;
    let number = AtomicU32::new(0);
    let fresh = || {
        let prefix = number.fetch_add(1, Ordering::Relaxed);
        open(&format!("s3://{BUCKET}/some/{prefix}"), s3_options(&server))
    };
    conformance::run(fresh).await;
    // Nothing of the multipart uploads is left, as far as the server keeps them beside the bucket.
    for entry in std::fs::read_dir(server.root.path()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(!file.starts_with(".upload"), "{file}");
    }
}

#[tokio::test]
async fn failures_of_the_server_are_tried_again_and_then_typed() {
    let server = Server::start().await;
    let objects = open_s3(&server);
    let a = name("a");
    let bytes = pattern(100_000, 1);
    objects.put(&a, bytes.clone()).await.unwrap();
    let passing = [
        Answer::Status(500, "InternalError"),
        Answer::Status(503, "SlowDown"),
        Answer::Status(429, "TooManyRequests"),
        Answer::Status(400, "RequestTimeout"),
    ];
    for answer in passing {
        server.script([answer, answer]);
        assert_eq!(objects.get(&a).await.unwrap(), bytes, "{answer:?}");
        assert_eq!(server.requests(), 3, "{answer:?}");
        server.script([answer, answer, answer]);
        let error = objects.get(&a).await.unwrap_err();
        assert_eq!(server.requests(), 3, "{answer:?}");
        assert!(
            matches!(error, ObjectError::Unavailable { attempts: 3, .. }),
            "{answer:?}: {error:?}"
        );
        server.script([answer]);
        assert_eq!(
            objects.get_range(&a, 5..50).await.unwrap(),
            bytes[5..50],
            "{answer:?}"
        );
    }
    for answer in &passing {
        server.script([*answer, *answer]);
        objects.put(&a, bytes.clone()).await.unwrap();
        assert_eq!(server.requests(), 3, "{answer:?}");
        server.script([*answer]);
        assert_eq!(objects.list_sorted(None, 10).await.unwrap().len(), 1);
        server.script([*answer]);
        objects.delete(&name("absent")).await.unwrap();
        assert_eq!(server.requests(), 2, "{answer:?}");
    }
}

#[tokio::test]
async fn refusals_are_typed_and_not_tried_again() {
    let server = Server::start().await;
    let objects = open_s3(&server);
    for (status, code, kind) in [
        (403, "AccessDenied", ErrorKind::Denied),
        (401, "Unauthorized", ErrorKind::Denied),
        (400, "ExpiredToken", ErrorKind::Denied),
        (404, "NoSuchKey", ErrorKind::NotFound),
        (507, "XMinioStorageFull", ErrorKind::NoSpace),
        (400, "EntityTooLarge", ErrorKind::Invalid),
        (301, "PermanentRedirect", ErrorKind::Invalid),
    ] {
        server.script([Answer::Status(status, code)]);
        let error = objects.put(&name("a"), pattern(10, 1)).await.unwrap_err();
        assert_eq!((error.kind(), server.requests()), (kind, 1), "{code}: {error:?}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("s3://bucket/prefix") && !text.contains(SECRET_KEY),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = Server::start().await;
    let options = ObjectOptions {
        request_timeout: Duration::from_millis(150),
        ..s3_options(&server)
    };
    let objects = open(&format!("s3://{BUCKET}"), options);
    server.script([Answer::Hang; 3]);
    let error = objects.get(&name("a")).await.unwrap_err();
    assert!(
        matches!(error, ObjectError::Timeout { attempts: 3, .. }),
        "{error:?}"
    );
    // Nobody listens.
    let options = ObjectOptions {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..s3_options(&server)
    };
    let error = open(&format!("s3://{BUCKET}"), options)
        .check()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ObjectError::Unavailable { attempts: 3, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_tried_again_and_never_returned() {
    let server = Server::start().await;
    let (endpoint, task, requests) = cutting().await;
    let options = ObjectOptions {
        endpoint: Some(endpoint),
        ..s3_options(&server)
    };
    let objects = open(&format!("s3://{BUCKET}"), options);
    let error = objects.get(&name("a")).await.unwrap_err();
    assert!(
        matches!(error, ObjectError::Unavailable { attempts: 3, .. }),
        "{error:?}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), ATTEMPTS);
    task.abort();
}

#[tokio::test]
async fn a_wrong_bucket_is_named() {
    let server = Server::start().await;
    let objects = open("s3://other-bucket/p", s3_options(&server));
    for error in [
        objects.check().await.unwrap_err(),
        objects.list_sorted(None, 1).await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
        assert!(error.to_string().contains("s3://other-bucket/p"), "{error}");
    }
    server.script([Answer::Status(404, "NoSuchBucket")]);
    let error = objects.put(&name("a"), pattern(1, 1)).await.unwrap_err();
    assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_are_read_again_when_their_file_changes() {
    let server = Server::start().await;
    let path = server.root.path().join("credentials");
    Server::credentials(&path, "wrong-secret-key");
    let objects = open_s3(&server);
    let error = objects.put(&name("a"), pattern(1, 1)).await.unwrap_err();
    assert!(matches!(error, ObjectError::Denied { .. }), "{error:?}");
    assert!(
        !format!("{error} {error:?} {objects:?}").contains("wrong-secret"),
        "{error:?}"
    );
    Server::credentials(&path, SECRET_KEY);
    objects.put(&name("a"), pattern(1, 1)).await.unwrap();
    assert!(!format!("{objects:?}").contains(SECRET_KEY));
    Server::credentials(&path, "wrong-secret-key");
    assert!(matches!(
        objects.get(&name("a")).await.unwrap_err(),
        ObjectError::Denied { .. }
    ));
}

#[tokio::test]
async fn a_failed_upload_in_parts_leaves_nothing() {
    let server = Server::start().await;
    let objects = open_s3(&server);
    objects.put(&name("a"), pattern(7, 1)).await.unwrap();
    // The upload begins, and its parts are refused.
    server.script([
        Answer::Serve,
        Answer::Status(403, "AccessDenied"),
        Answer::Status(403, "AccessDenied"),
    ]);
    let error = objects.put(&name("a"), pattern(12 * MIB, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(server.last_was_delete());
    assert_eq!(objects.get(&name("a")).await.unwrap(), pattern(7, 1));
    let left = std::fs::read_dir(server.root.path()).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!left.iter().any(|file| file.starts_with(".upload")), "{left:?}");
}

#[tokio::test]
async fn stores_under_different_prefixes_do_not_see_each_other() {
    let server = Server::start().await;
    let (one, two) = (
        open("s3://bucket/p", s3_options(&server)),
        open("s3://bucket/pp", s3_options(&server)),
    );
    one.put(&name("a"), pattern(1, 1)).await.unwrap();
    two.put(&name("b"), pattern(1, 1)).await.unwrap();
    let whole = open("s3://bucket", s3_options(&server));
    let listed: Vec<_> = whole
        .list_sorted(None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(listed, [name("p/a"), name("pp/b")]);
    assert_eq!(one.list_sorted(None, 9).await.unwrap()[0].name, name("a"));
    assert!(one.get(&name("b")).await.unwrap_err().is_not_found());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let url = ObjectStoreUrl::parse("s3://bucket").unwrap();
    let open = |options| Objects::open(&url, options, Arc::new(Random)).unwrap_err();
    let absent = ObjectOptions {
        credentials: Credentials::File {
            path: "/nonexistent/credentials".into(),
            profile: "default".to_owned(),
        },
        ..ObjectOptions::default()
    };
    let error = open(absent);
    assert!(matches!(error, ObjectError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("/nonexistent/credentials"), "{error}");
    let none = ObjectOptions {
        attempts_max: 0,
        ..ObjectOptions::default()
    };
    assert_eq!(open(none).kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn google_and_azure_are_spoken_to_by_the_same_rules() {
    // Shows that their clients are made from options and a file, and that what they are answered is tried again and
    // typed as from S3.
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let options = ObjectOptions {
        account: Some("account".to_owned()),
        credentials: Credentials::File {
            path: path.clone(),
            profile: String::new(),
        },
        ..s3_options(&server)
    };
    let google = r#"{"private_key":"k","private_key_id":"i","client_email":"e","disable_oauth":true}"#;
    for (url, text) in [
        ("gs://bucket/p", google),
        ("az://bucket/p", "sas_token = sig=hunter2"),
    ] {
        std::fs::write(&path, text).unwrap();
        let objects = open(url, options.clone());
        let answers = [
            (403, "AuthenticationFailed", ErrorKind::Denied),
            (404, "ContainerNotFound", ErrorKind::NotFound),
            (507, "InsufficientStorage", ErrorKind::NoSpace),
        ];
        for (status, code, kind) in answers {
            server.script([Answer::Status(503, "ServerBusy"), Answer::Status(status, code)]);
            let error = objects.put(&name("a"), pattern(10, 1)).await.unwrap_err();
            assert_eq!((error.kind(), server.requests()), (kind, 2), "{url}: {error:?}");
            assert_eq!(
                matches!(error, ObjectError::NoBucket { .. }),
                status == 404,
                "{error:?}"
            );
            assert!(
                !format!("{error} {error:?} {objects:?}").contains("hunter2"),
                "{error:?}"
            );
        }
        server.script([Answer::Status(503, "ServerBusy"); 3]);
        let error = objects.check().await.unwrap_err();
        assert!(
            matches!(error, ObjectError::Unavailable { attempts: 3, .. }),
            "{url}: {error:?}"
        );
    }
}
