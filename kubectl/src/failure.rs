//! How a command fails, how that is told, and what the process ends with. The codes are those of `cairn` wherever they mean the same.

use std::io;
use std::process::ExitCode;

use kube::config::KubeconfigError;
use serde::Serialize;

/// The exit code: stable, one per thing that a caller can do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done. An explanation of what is wrong is done, too.
    Success = 0,
    /// The command line is wrong, or a confirmation is missing. (clap ends with the same code.)
    Usage = 2,
    /// No such object, or no such kind: the definitions are not installed.
    NotFound = 3,
    /// It exists already, or its state forbids it.
    Conflict = 4,
    /// A name or value that can never be right.
    Invalid = 5,
    /// No cluster is configured, or its API server does not answer.
    Unreachable = 6,
    /// A fault of Cairn, of the cluster, or of a program that is called.
    Internal = 9,
    /// Ctrl-C, or another signal that ends it.
    Cancelled = 13,
    /// The API server refuses who asks, or what is asked for.
    Denied = 20,
    /// It was waited for, in vain.
    TimedOut = 24,
    /// It cannot become what was asked for, as things stand: a condition tells why.
    NotReady = 25,
}

/// The table as `kubectl cairn --help` shows it.
pub const TABLE: &str = "\
Exit codes:
  0  done
  2  wrong command line, or a confirmation is missing
  3  no such object, or the definitions of Cairn are not installed
  4  exists already, or its state forbids it
  5  invalid name or value
  6  no cluster is configured, or its API server does not answer
  9  a fault of Cairn, of the cluster, or of a program that is called
 13  cancelled
 20  the API server refuses
 24  it was waited for, in vain
 25  it cannot become ready as things stand: the message tells why
Of `view` with a COMMAND: what that ended with.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Told by us: what it ends with, a word for programs, what is the matter, what to do.
    Told {
        /// What it ends with.
        exit: Exit,
        /// One word.
        reason: &'static str,
        /// What is the matter.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// The API server refused, or did not answer.
    Cluster {
        /// What was tried.
        what: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// There is no cluster to talk to.
    Configuration(Box<KubeconfigError>),
    /// Standard output cannot be written. A closed pipe is no failure of the command.
    Output(io::Error),
    /// A program that was asked for ended with this code.
    Program(u8),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl From<KubeconfigError> for Failure {
    fn from(error: KubeconfigError) -> Self {
        Failure::Configuration(Box::new(error))
    }
}

#[derive(Serialize)]
struct Told<'a> {
    reason: &'a str,
    message: &'a str,
    remedy: &'a str,
    exit_code: u8,
}

#[derive(Serialize)]
struct Enveloped<'a> {
    error: Told<'a>,
}

impl Failure {
    /// Told by us.
    pub fn told(
        exit: Exit,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Failure::Told {
            exit,
            reason,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The command line is wrong, or a confirmation is missing.
    pub fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Failure::told(Exit::Usage, "USAGE", message, remedy)
    }

    /// What was tried, as a function for `map_err`.
    pub fn of(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Failure {
        let what = what.into();
        |source| Failure::Cluster {
            what,
            source: Box::new(source),
        }
    }

    /// The HTTP code of the API server's refusal; 0 if there is none.
    pub fn code(&self) -> u16 {
        match self {
            Failure::Cluster { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.code,
                _ => 0,
            },
            Failure::Told { .. } | Failure::Configuration(_) | Failure::Output(_) | Failure::Program(_) => 0,
        }
    }

    /// What the process ends with.
    pub fn exit(&self) -> ExitCode {
        match self {
            Failure::Program(code) => ExitCode::from(*code),
            other => other.outcome().into(),
        }
    }

    fn outcome(&self) -> Exit {
        match self {
            Failure::Told { exit, .. } => *exit,
            Failure::Configuration(_) => Exit::Unreachable,
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Failure::Output(_) | Failure::Program(_) => Exit::Internal,
            Failure::Cluster { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => match status.code {
                    401 | 403 => Exit::Denied,
                    404 => Exit::NotFound,
                    409 => Exit::Conflict,
                    400 | 422 => Exit::Invalid,
                    429 | 500..=599 => Exit::Unreachable,
                    _ => Exit::Internal,
                },
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Exit::Internal,
                _ => Exit::Unreachable,
            },
        }
    }

    fn remedy(&self) -> &str {
        match self {
            Failure::Told { remedy, .. } => remedy,
            Failure::Configuration(_) => {
                "name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context (kubectl config get-contexts)"
            }
            Failure::Output(_) | Failure::Program(_) => "",
            Failure::Cluster { .. } => match self.outcome() {
                Exit::Denied => {
                    "ask for the right, or use another --context or --user: kubectl auth whoami tells who you are"
                }
                Exit::Unreachable => "see whether kubectl get namespaces works with the same context",
                Exit::NotFound => {
                    "see -n and kubectl cairn list -A; without the kinds install Cairn: kubectl apply -f deploy/install.yaml"
                }
                _ => "",
            },
        }
    }

    fn reason(&self) -> &str {
        match self {
            Failure::Told { reason, .. } => reason,
            Failure::Configuration(_) => "CONFIGURATION",
            Failure::Output(_) => "OUTPUT",
            Failure::Program(_) => "PROGRAM",
            Failure::Cluster { .. } => match self.outcome() {
                Exit::Denied => "DENIED",
                Exit::NotFound => "NOT_FOUND",
                Exit::Conflict => "CONFLICT",
                Exit::Invalid => "INVALID",
                Exit::Unreachable => "UNREACHABLE",
                _ => "INTERNAL",
            },
        }
    }

    fn message(&self) -> String {
        match self {
            Failure::Told { message, .. } => message.clone(),
            Failure::Configuration(error) => format!("no cluster to talk to: {}", chain(error.as_ref())),
            Failure::Output(error) => format!("cannot write to standard output: {error}"),
            Failure::Program(code) => format!("the program ended with {code}"),
            Failure::Cluster { what, source } => match source.as_ref() {
                kube::Error::Api(status) => format!("cannot {what}: {}", status.message),
                other => format!("cannot {what}: {}", chain(other)),
            },
        }
    }

    /// The text for standard error; empty if there is nothing to say.
    pub fn text(&self, json: bool) -> String {
        match self {
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return String::new(),
            // It has said itself what there was to say.
            Failure::Program(_) => return String::new(),
            _ => {}
        }
        let (message, remedy) = (self.message(), self.remedy());
        if json {
            let told = Told {
                reason: self.reason(),
                message: &message,
                remedy,
                exit_code: self.outcome() as u8,
            };
            // Texts always have a JSON form.
            return serde_json::to_string(&Enveloped { error: told }).unwrap_or_default() + "\n";
        }
        match remedy.is_empty() {
            true => format!("kubectl cairn: {message}\n"),
            false => format!("kubectl cairn: {message}\n  {remedy}\n"),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let shown = error.to_string();
        if !text.contains(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{Exit, Failure, TABLE};

    fn refused(code: u16) -> Failure {
        let status = Status {
            code,
            message: "no".to_owned(),
            ..Status::default()
        };
        Failure::of("get it")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn refusals_end_as_the_table_says() {
        for (code, exit) in [
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (422, Exit::Invalid),
            (400, Exit::Invalid),
            (503, Exit::Unreachable),
            (418, Exit::Internal),
        ] {
            assert_eq!(refused(code).outcome(), exit, "{code}");
            assert!(TABLE.contains(&format!("\n{:3}  ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn people_and_programs_are_told() {
        let text = refused(403).text(false);
        assert!(
            text.starts_with("kubectl cairn: cannot get it: no\n  ask for"),
            "{text}"
        );
        let text = refused(422).text(true);
        assert_eq!(
            text,
            "{\"error\":{\"reason\":\"INVALID\",\"message\":\"cannot get it: no\",\"remedy\":\"\",\"exit_code\":5}}\n"
        );
        let closed = Failure::Output(std::io::ErrorKind::BrokenPipe.into());
        assert!(closed.text(false).is_empty());
    }
}
