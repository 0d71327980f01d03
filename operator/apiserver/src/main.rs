//! `cairn-apiserver`: the API server of the tests as a program, on loopback, with a kubeconfig for `kubectl`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use cairn_apiserver::{ApiServer, Controllers, Settings, User};
use clap::Parser;

/// A Kubernetes API server in one process, for tests and trials. Nothing is kept after its end.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; loopback only, port 0 for any
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to write a kubeconfig for an administrator
    #[arg(long)]
    kubeconfig: PathBuf,
    /// YAML files that are loaded at the start: definitions, roles, anything
    #[arg(long = "load")]
    files: Vec<PathBuf>,
    /// Run stand-ins for the controllers of a real cluster: pods run, claims bind, Services have endpoints
    #[arg(long)]
    controllers: bool,
    /// A user: TOKEN=NAME or TOKEN=NAME:GROUP,GROUP; service accounts as system/serviceaccount/NAMESPACE/NAME
    #[arg(long = "user")]
    users: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let server = ApiServer::new(Settings {
        controllers: if arguments.controllers {
            Controllers::all()
        } else {
            Controllers::default()
        },
        ..Settings::default()
    });
    for file in &arguments.files {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        server
            .load(&text)
            .with_context(|| format!("cannot load {}", file.display()))?;
    }
    let serving = server.serve(arguments.listen).await?;
    serving.add_user("admin", User::admin());
    for user in &arguments.users {
        let (token, name) = user
            .split_once('=')
            .with_context(|| format!("{user}: expected TOKEN=NAME"))?;
        serving.add_user(token, parse_user(name));
    }
    serving.write_kubeconfig(&arguments.kubeconfig, "admin", "default")?;
    println!("{}", serving.url());
    let background = server.background();
    tokio::signal::ctrl_c().await?;
    background.stop().await;
    serving.stop().await;
    Ok(())
}

fn parse_user(text: &str) -> User {
    if let Some((namespace, name)) = text
        .strip_prefix("system/serviceaccount/")
        .and_then(|rest| rest.split_once('/'))
    {
        return User::service_account(namespace, name);
    }
    let (name, groups) = text.split_once(':').unwrap_or((text, ""));
    let groups: Vec<&str> = groups.split(',').filter(|group| !group.is_empty()).collect();
    User::new(name, &groups)
}
