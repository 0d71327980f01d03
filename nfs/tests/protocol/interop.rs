//! All procedures, driven by an independent client implementation (nfs3_client).

use std::sync::Arc;

use cairn_nfs::ServerSettings;
use nfs3_client::tokio::TokioIo;
use nfs3_client::{MountClient, Nfs3Client, PortmapperClient};
use nfs3_types::mount::dirpath;
use nfs3_types::nfs3::{
    ACCESS3args, COMMIT3args, CREATE3args, GETATTR3args, LINK3args, LOOKUP3args, MKDIR3args, MKNOD3args,
    Nfs3Option, Nfs3Result, READ3args, READDIR3args, READDIRPLUS3args, READLINK3args, REMOVE3args,
    RENAME3args, RMDIR3args, SETATTR3args, SYMLINK3args, WRITE3args, cookieverf3, createhow3, createverf3,
    devicedata3, diropargs3, fattr3, ftype3, mknoddata3, nfs_fh3, nfsstat3, nfstime3, sattr3, set_atime,
    set_mtime, specdata3, stable_how, symlinkdata3,
};
use nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_types::xdr_codec::Opaque;
use tokio::net::TcpStream;

use crate::support::Running;
use crate::support::memory::MemoryFs;

type Client = Nfs3Client<TokioIo<TcpStream>>;

async fn io<F: cairn_vfs::FileSystem>(running: &Running<F>) -> TokioIo<TcpStream> {
    TokioIo::new(TcpStream::connect(running.address).await.unwrap())
}

async fn start() -> (Running<MemoryFs>, Client, nfs_fh3, Arc<MemoryFs>) {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut mount = MountClient::new(io(&running).await);
    let mounted = mount.mnt(dirpath(Opaque::borrowed(b"/vol"))).await.unwrap();
    assert_eq!(mounted.auth_flavors, [1, 0]);
    let root = nfs_fh3 {
        data: Opaque::owned(mounted.fhandle.0.to_vec()),
    };
    let auth = auth_unix {
        uid: 0,
        gid: 0,
        gids: vec![1, 2, 3],
        ..auth_unix::default()
    };
    let client = Nfs3Client::new_with_auth(
        io(&running).await,
        opaque_auth::auth_unix(&auth),
        opaque_auth::default(),
    );
    (running, client, root, fs)
}

fn at<'a>(directory: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 {
        dir: directory.clone(),
        name: name.as_bytes().into(),
    }
}

fn mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: Nfs3Option::Some(mode),
        ..sattr3::default()
    }
}

fn status<T: std::fmt::Debug, E>(result: Nfs3Result<T, E>) -> nfsstat3 {
    match result {
        Nfs3Result::Ok(_) => nfsstat3::NFS3_OK,
        Nfs3Result::Err((status, _)) => status,
    }
}

async fn getattr(client: &mut Client, object: &nfs_fh3) -> fattr3 {
    client
        .getattr(&GETATTR3args {
            object: object.clone(),
        })
        .await
        .unwrap()
        .unwrap()
        .obj_attributes
}

async fn create(client: &mut Client, directory: &nfs_fh3, name: &str) -> nfs_fh3 {
    let arguments = CREATE3args {
        where_: at(directory, name),
        how: createhow3::GUARDED(mode(0o640)),
    };
    client.create(&arguments).await.unwrap().unwrap().obj.unwrap()
}

#[tokio::test]
async fn attributes() {
    let (_running, mut client, root, _) = start().await;
    client.null().await.unwrap();
    assert_eq!(getattr(&mut client, &root).await.type_, ftype3::NF3DIR);
    let file = create(&mut client, &root, "file").await;
    let before = getattr(&mut client, &file).await;
    assert_eq!(
        (before.type_, before.mode, before.nlink, before.fsid),
        (ftype3::NF3REG, 0o640, 1, 1)
    );

    let set = sattr3 {
        mode: Nfs3Option::Some(0o600),
        uid: Nfs3Option::Some(12),
        gid: Nfs3Option::Some(13),
        size: Nfs3Option::Some(100),
        atime: set_atime::SET_TO_SERVER_TIME,
        mtime: set_mtime::SET_TO_CLIENT_TIME(nfstime3 {
            seconds: 5,
            nseconds: 6,
        }),
    };
    let guarded = |guard| SETATTR3args {
        object: file.clone(),
        new_attributes: set.clone(),
        guard,
    };
    let wrong = guarded(Nfs3Option::Some(nfstime3 {
        seconds: 1,
        nseconds: 1,
    }));
    match client.setattr(&wrong).await.unwrap() {
        Nfs3Result::Err((nfsstat3::NFS3ERR_NOT_SYNC, fail)) => assert!(fail.obj_wcc.after.is_some()),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        getattr(&mut client, &file).await.mode,
        0o640,
        "a failed guard changes nothing"
    );
    let done = client
        .setattr(&guarded(Nfs3Option::Some(before.ctime)))
        .await
        .unwrap()
        .unwrap();
    let (wcc_before, after) = (done.obj_wcc.before.unwrap(), done.obj_wcc.after.unwrap());
    assert_eq!((wcc_before.size, wcc_before.ctime), (0, before.ctime));
    assert_eq!(
        (after.mode, after.uid, after.gid, after.size),
        (0o600, 12, 13, 100)
    );
    assert_eq!(
        after.mtime,
        nfstime3 {
            seconds: 5,
            nseconds: 6
        }
    );

    let access = client
        .access(&ACCESS3args {
            object: file.clone(),
            access: 0x3f,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(access.access, 0x01 | 0x04 | 0x08, "root, and nobody may execute");
    let stat = client.fsstat(&root.clone().into()).await.unwrap().unwrap();
    assert_eq!(
        (stat.tbytes, stat.fbytes, stat.abytes, stat.tfiles, stat.ffiles),
        (1000, 900, 800, 70, 60)
    );
    let stat = client.fsstat(&file.clone().into()).await.unwrap();
    assert_eq!(status(stat), nfsstat3::NFS3_OK, "FSSTAT of a file");
    let info = client.fsinfo(&root.clone().into()).await.unwrap().unwrap();
    assert_eq!((info.rtmax, info.rtpref, info.rtmult), (1 << 20, 1 << 20, 4096));
    assert_eq!(
        (info.wtmax, info.wtpref, info.wtmult, info.dtpref),
        (1 << 20, 1 << 20, 4096, 1 << 20)
    );
    assert_eq!((info.maxfilesize, info.properties), (i64::MAX as u64, 0x1b));
    assert_eq!(
        info.time_delta,
        nfstime3 {
            seconds: 0,
            nseconds: 1
        }
    );
    let conf = client.pathconf(&file.clone().into()).await.unwrap().unwrap();
    assert_eq!((conf.linkmax, conf.name_max), (65_000, 255));
    assert!(conf.no_trunc && conf.chown_restricted && !conf.case_insensitive && conf.case_preserving);
    let stale = nfs_fh3 {
        data: Opaque::owned(vec![1; 32]),
    };
    let conf = client.pathconf(&stale.into()).await.unwrap();
    assert_eq!(
        status(conf),
        nfsstat3::NFS3ERR_BADHANDLE,
        "PATHCONF looks at its handle"
    );
}

#[tokio::test]
async fn data() {
    let (_running, mut client, root, fs) = start().await;
    let file = create(&mut client, &root, "data").await;
    let payload: Vec<u8> = (0..1_048_576u32).map(|n| (n % 251) as u8).collect();
    let mut offset = 0;
    // From a few bytes to the largest payload, with every padding, through the head buffer and around it.
    for length in [
        1usize, 2, 3, 4, 1000, 16_000, 17_001, 65_536, 131_072, 200_003, 1_048_576,
    ] {
        let arguments = WRITE3args {
            file: file.clone(),
            offset,
            count: length as u32,
            stable: stable_how::UNSTABLE,
            data: Opaque::borrowed(&payload[..length]),
        };
        let written = client.write(&arguments).await.unwrap().unwrap();
        assert_eq!(
            (written.count, written.committed),
            (length as u32, stable_how::UNSTABLE)
        );
        assert_eq!(written.verf.0, 7u64.to_be_bytes());
        assert_eq!(written.file_wcc.before.unwrap().size, offset);
        let read = READ3args {
            file: file.clone(),
            offset,
            count: length as u32,
        };
        let read = client.read(&read).await.unwrap().unwrap();
        assert_eq!((read.count as usize, read.eof), (length, true));
        assert!(
            read.data.as_ref() == &payload[..length],
            "{length} bytes came back"
        );
        offset += length as u64;
    }
    let beyond = client
        .read(&READ3args {
            file: file.clone(),
            offset: u64::MAX,
            count: 10,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((beyond.count, beyond.eof), (0, true));
    let clamped = client
        .read(&READ3args {
            file: file.clone(),
            offset: 0,
            count: 512 << 20,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((clamped.count, clamped.data.len()), (1 << 20, 1 << 20));

    for (stable, committed) in [
        (stable_how::DATA_SYNC, stable_how::DATA_SYNC),
        (stable_how::FILE_SYNC, stable_how::FILE_SYNC),
    ] {
        let arguments = WRITE3args {
            file: file.clone(),
            offset: 0,
            count: 2,
            stable,
            data: Opaque::borrowed(b"xy"),
        };
        assert_eq!(
            client.write(&arguments).await.unwrap().unwrap().committed,
            committed
        );
    }
    let too_far = WRITE3args {
        file: file.clone(),
        offset: i64::MAX as u64,
        count: 1,
        stable: stable_how::UNSTABLE,
        data: Opaque::borrowed(b"z"),
    };
    assert_eq!(
        status(client.write(&too_far).await.unwrap()),
        nfsstat3::NFS3ERR_FBIG
    );
    fs.verifier.store(8, std::sync::atomic::Ordering::SeqCst);
    let commit = client
        .commit(&COMMIT3args {
            file,
            offset: 0,
            count: 0,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(commit.verf.0, 8u64.to_be_bytes());
    assert!(commit.file_wcc.after.is_some());
    let directory = READ3args {
        file: root,
        offset: 0,
        count: 1,
    };
    match client.read(&directory).await.unwrap() {
        Nfs3Result::Err((nfsstat3::NFS3ERR_ISDIR, fail)) => assert!(fail.file_attributes.is_some()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn names() {
    let (_running, mut client, root, fs) = start().await;
    let made = client
        .mkdir(&MKDIR3args {
            where_: at(&root, "dir"),
            attributes: mode(0o711),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        made.obj_attributes.unwrap().mode,
        0o711,
        "MKDIR applies the attributes"
    );
    assert!(made.dir_wcc.before.is_some());
    let directory = made.obj.unwrap();

    let exclusive = |verifier: u8| CREATE3args {
        where_: at(&directory, "once"),
        how: createhow3::EXCLUSIVE(createverf3([verifier; 8])),
    };
    let once = client.create(&exclusive(1)).await.unwrap().unwrap();
    assert!(once.obj_attributes.is_some());
    let again = client.create(&exclusive(1)).await.unwrap().unwrap();
    assert_eq!(
        again.obj.unwrap(),
        once.obj.unwrap(),
        "the same verifier finds the same file"
    );
    assert_eq!(
        status(client.create(&exclusive(2)).await.unwrap()),
        nfsstat3::NFS3ERR_EXIST
    );
    let guarded = CREATE3args {
        where_: at(&directory, "once"),
        how: createhow3::GUARDED(mode(0o600)),
    };
    assert_eq!(
        status(client.create(&guarded).await.unwrap()),
        nfsstat3::NFS3ERR_EXIST
    );
    let unchecked = CREATE3args {
        where_: at(&directory, "once"),
        how: createhow3::UNCHECKED(mode(0o600)),
    };
    assert_eq!(
        status(client.create(&unchecked).await.unwrap()),
        nfsstat3::NFS3_OK
    );

    let symlink = SYMLINK3args {
        where_: at(&root, "link"),
        symlink: symlinkdata3 {
            symlink_attributes: sattr3::default(),
            symlink_data: nfs3_types::nfs3::nfspath3(Opaque::borrowed(b"dir/\xff")),
        },
    };
    let link = client.symlink(&symlink).await.unwrap().unwrap().obj.unwrap();
    let target = client
        .readlink(&READLINK3args { symlink: link })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(target.data.0.as_ref(), b"dir/\xff");
    let no_link = client
        .readlink(&READLINK3args {
            symlink: root.clone(),
        })
        .await
        .unwrap();
    assert_eq!(status(no_link), nfsstat3::NFS3ERR_INVAL);

    let special = [
        ("fifo", mknoddata3::NF3FIFO(mode(0o600)), ftype3::NF3FIFO, 0),
        ("socket", mknoddata3::NF3SOCK(mode(0o600)), ftype3::NF3SOCK, 0),
        (
            "device",
            mknoddata3::NF3CHR(devicedata3 {
                dev_attributes: mode(0o600),
                spec: specdata3 {
                    specdata1: 5,
                    specdata2: 6,
                },
            }),
            ftype3::NF3CHR,
            5,
        ),
    ];
    for (name, what, kind, major) in special {
        let made = client
            .mknod(&MKNOD3args {
                where_: at(&root, name),
                what,
            })
            .await
            .unwrap()
            .unwrap();
        let attributes = made.obj_attributes.unwrap();
        assert_eq!((attributes.type_, attributes.rdev.specdata1), (kind, major));
    }

    let file = create(&mut client, &root, "file").await;
    let linked = LINK3args {
        file: file.clone(),
        link: at(&directory, "hard"),
    };
    let linked_attributes = client
        .link(&linked)
        .await
        .unwrap()
        .unwrap()
        .file_attributes
        .unwrap();
    assert_eq!(linked_attributes.nlink, 2);
    assert_eq!(
        status(client.link(&linked).await.unwrap()),
        nfsstat3::NFS3ERR_EXIST
    );
    let found = client
        .lookup(&LOOKUP3args {
            what: at(&directory, "hard"),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.object, found.obj_attributes.unwrap().fileid),
        (file, linked_attributes.fileid)
    );
    assert!(found.dir_attributes.is_some());
    let parent = client
        .lookup(&LOOKUP3args {
            what: at(&directory, ".."),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(parent.object, root);

    let renamed = RENAME3args {
        from: at(&root, "file"),
        to: at(&directory, "moved"),
    };
    let renamed = client.rename(&renamed).await.unwrap().unwrap();
    assert!(renamed.fromdir_wcc.before.is_some() && renamed.todir_wcc.after.is_some());
    match client
        .lookup(&LOOKUP3args {
            what: at(&root, "file"),
        })
        .await
        .unwrap()
    {
        Nfs3Result::Err((nfsstat3::NFS3ERR_NOENT, fail)) => assert!(fail.dir_attributes.is_some()),
        other => panic!("{other:?}"),
    }
    let full = client
        .rmdir(&RMDIR3args {
            object: at(&root, "dir"),
        })
        .await
        .unwrap();
    assert_eq!(status(full), nfsstat3::NFS3ERR_NOTEMPTY);
    for name in ["once", "hard", "moved"] {
        client
            .remove(&REMOVE3args {
                object: at(&directory, name),
            })
            .await
            .unwrap()
            .unwrap();
    }
    let not_file = client
        .remove(&REMOVE3args {
            object: at(&root, "dir"),
        })
        .await
        .unwrap();
    assert_eq!(status(not_file), nfsstat3::NFS3ERR_ISDIR);
    client
        .rmdir(&RMDIR3args {
            object: at(&root, "dir"),
        })
        .await
        .unwrap()
        .unwrap();
    let stale = client.getattr(&GETATTR3args { object: directory }).await.unwrap();
    assert_eq!(status(stale), nfsstat3::NFS3ERR_STALE);
    assert_eq!(fs.names(), ["link", "fifo", "socket", "device"]);
}

#[tokio::test]
async fn names_that_are_none() {
    let (_running, mut client, root, _) = start().await;
    let long = "n".repeat(256);
    for (name, expected) in [
        (".", nfsstat3::NFS3ERR_EXIST),
        ("..", nfsstat3::NFS3ERR_EXIST),
        ("", nfsstat3::NFS3ERR_INVAL),
        ("a/b", nfsstat3::NFS3ERR_INVAL),
        ("a\0b", nfsstat3::NFS3ERR_INVAL),
        (&long, nfsstat3::NFS3ERR_NAMETOOLONG),
    ] {
        let made = client
            .mkdir(&MKDIR3args {
                where_: at(&root, name),
                attributes: mode(0o700),
            })
            .await
            .unwrap();
        assert_eq!(status(made), expected, "{name:?}");
    }
    let rmdir = |name| RMDIR3args {
        object: at(&root, name),
    };
    assert_eq!(
        status(client.rmdir(&rmdir(".")).await.unwrap()),
        nfsstat3::NFS3ERR_INVAL
    );
    assert_eq!(
        status(client.rmdir(&rmdir("..")).await.unwrap()),
        nfsstat3::NFS3ERR_EXIST
    );
    let rename = RENAME3args {
        from: at(&root, "a"),
        to: at(&root, ".."),
    };
    assert_eq!(
        status(client.rename(&rename).await.unwrap()),
        nfsstat3::NFS3ERR_INVAL
    );
    let lookup = client
        .lookup(&LOOKUP3args {
            what: at(&root, &long),
        })
        .await
        .unwrap();
    assert_eq!(status(lookup), nfsstat3::NFS3ERR_NAMETOOLONG);
    for length in [1, 254, 255] {
        create(&mut client, &root, &"n".repeat(length)).await;
    }
}

#[tokio::test]
async fn listings() {
    let (_running, mut client, root, _) = start().await;
    create(&mut client, &root, "a").await;
    create(&mut client, &root, "bb").await;
    let arguments = READDIR3args {
        dir: root.clone(),
        cookie: 0,
        cookieverf: cookieverf3::default(),
        count: 4096,
    };
    let listed = client.readdir(&arguments).await.unwrap().unwrap();
    assert!(listed.reply.eof && listed.dir_attributes.is_some());
    let names: Vec<_> = listed
        .reply
        .entries
        .0
        .iter()
        .map(|entry| entry.name.as_ref().to_vec())
        .collect();
    assert_eq!(names, [&b"."[..], b"..", b"a", b"bb"]);
    let arguments = READDIRPLUS3args {
        dir: root.clone(),
        cookie: 2,
        cookieverf: cookieverf3([9; 8]),
        dircount: 4096,
        maxcount: 8192,
    };
    let listed = client.readdirplus(&arguments).await.unwrap().unwrap();
    let entries = listed.reply.entries.0;
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let name = String::from_utf8(entry.name.as_ref().to_vec()).unwrap();
        let found = client
            .lookup(&LOOKUP3args {
                what: at(&root, &name),
            })
            .await
            .unwrap()
            .unwrap();
        assert_eq!(entry.name_handle.unwrap(), found.object);
        assert_eq!(entry.name_attributes.unwrap().fileid, entry.fileid);
    }
}

#[tokio::test]
async fn mount_and_port_mapper() {
    let (running, _, _, _) = start().await;
    let mut mount = MountClient::new(io(&running).await);
    mount.null().await.unwrap();
    let exports = mount.export().await.unwrap();
    let exports = exports.into_inner();
    assert_eq!(exports.len(), 1);
    assert_eq!(exports[0].ex_dir.0.as_ref(), b"/vol");
    let dump = mount.dump().await.unwrap().into_inner();
    assert_eq!(dump.len(), 1, "the mount of start()");
    assert_eq!(dump[0].ml_directory.0.as_ref(), b"/vol");
    assert_eq!(dump[0].ml_hostname.0.as_ref(), b"127.0.0.1");
    mount.umnt(dirpath(Opaque::borrowed(b"/vol/"))).await.unwrap();
    assert!(mount.dump().await.unwrap().into_inner().is_empty());
    mount.mnt(dirpath(Opaque::borrowed(b"/vol/"))).await.unwrap();
    mount.umntall().await.unwrap();
    assert!(mount.dump().await.unwrap().into_inner().is_empty());
    assert!(mount.mnt(dirpath(Opaque::borrowed(b"/nowhere"))).await.is_err());

    let mut portmap = PortmapperClient::new(io(&running).await);
    portmap.null().await.unwrap();
    assert_eq!(
        portmap.getport(100_003, 3, 6).await.unwrap(),
        running.address.port()
    );
    assert_eq!(
        portmap.getport(100_005, 3, 6).await.unwrap(),
        running.address.port()
    );
    assert_eq!(portmap.dump().await.unwrap().len(), 3);
}
