//! NFS-Ganesha with its VFS back end on a directory of this machine's disk, on a loopback port of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server; ends with the value.
pub struct Ganesha {
    child: Child,
    /// Ganesha does not start without a port mapper; this one, if none ran.
    rpcbind: Option<Child>,
    /// Where NFS is served.
    pub address: SocketAddr,
    /// The port of MOUNT.
    pub mount_port: u16,
}

impl Ganesha {
    /// Serves `export` as `/export`; its files are in `directory`.
    pub fn start(directory: &Path, export: &Path) -> anyhow::Result<Ganesha> {
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (nfs, mount, other) = (free()?, free()?, free()?);
        let rpcbind = match TcpStream::connect(("127.0.0.1", 111)) {
            Ok(_) => None,
            Err(_) => Some(
                Command::new("rpcbind")
                    .args(["-f", "-w"])
                    .spawn()
                    .context("rpcbind")?,
            ),
        };
        let asked = Instant::now();
        while rpcbind.is_some() && !Path::new("/run/rpcbind.sock").exists() && asked.elapsed() < START_TIMEOUT
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::create_dir_all("/run/ganesha").context("making Ganesha's run directory: this needs root")?;
        let configuration = directory.join("ganesha.conf");
        let text = format!(
            "NFS_CORE_PARAM {{ Protocols = 3; NFS_Port = {nfs}; MNT_Port = {mount}; NLM_Port = {other}; Rquota_Port = 0;\n\
             Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; fsid_device = true; }}\n\
             NFSV4 {{ Graceless = true; RecoveryRoot = \"{0}\"; }}\n\
             EXPORT {{ Export_Id = 1; Path = \"{1}\"; Pseudo = \"/export\"; Protocols = 3; Transports = TCP;\n\
             Access_Type = RW; Squash = None; SecType = sys; FSAL {{ Name = VFS; }} }}\n",
            directory.display(),
            export.display()
        );
        std::fs::write(&configuration, text)?;
        let child = Command::new("ganesha.nfsd")
            .args(["-F", "-N", "EVENT", "-f"])
            .arg(&configuration)
            .arg("-L")
            .arg(directory.join("ganesha.log"))
            .arg("-p")
            .arg(directory.join("ganesha.pid"))
            .stdin(Stdio::null())
            .spawn()
            .context("ganesha.nfsd cannot be started: `make compare` installs the packages nfs-ganesha and nfs-ganesha-vfs")?;
        let address = SocketAddr::from(([127, 0, 0, 1], nfs));
        let mut server = Ganesha {
            child,
            rpcbind,
            address,
            mount_port: mount,
        };
        let started = Instant::now();
        while TcpStream::connect(server.address).is_err() || TcpStream::connect(("127.0.0.1", mount)).is_err()
        {
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read_to_string(directory.join("ganesha.log")).unwrap_or_default();
                bail!("ganesha.nfsd ended with {status}:\n{log}");
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("ganesha.nfsd does not listen after {START_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        for child in [Some(&mut self.child), self.rpcbind.as_mut()]
            .into_iter()
            .flatten()
        {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("ganesha.nfsd or rpcbind could not be ended: {error}");
            }
        }
    }
}
