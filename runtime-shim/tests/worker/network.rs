//! What network a program sees, by class.

use std::path::Path;
use std::sync::Arc;

use ggr_backends::Backend;
use ggr_backends::local::{LocalBackend, LocalOptions};
use ggr_ir::{Attempt, Harvest, Job, Kind, Limits, Network};
use ggr_shim::bench::command;

use crate::harness::{Place, reduced, tool_failed, worker_program};

fn run(place: &mut Place, script: &str, network: Network) -> Attempt {
    place.run(script, &[], Harvest::Everything, Limits { network, ..Limits::default() })
}

#[test]
fn thunks_of_a_tenants_network_share_it_and_others_have_their_own() {
    let mut place = Place::new();
    let script = "ls -l /proc/self/ns/net; cat /proc/net/dev";
    let mut seen = |network| {
        let attempt = run(&mut place, script, network);
        let said = place.stdout(&attempt);
        let space = said.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
        (space, said.contains("eth0"))
    };
    let [none, one, two] = [Network::None, Network::Tenant, Network::Tenant].map(&mut seen);
    let [own, other] = [Network::Own, Network::Own].map(&mut seen);
    assert!(!none.1);
    assert!(one.1 && own.1 && other.1);
    assert_eq!(one, two);
    assert!(own.0 != other.0 && own.0 != one.0 && none.0 != one.0 && none.0 != own.0);
}

#[test]
fn nothing_leads_out_of_any_network() {
    let mut place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    place.kit.program(Path::new("/usr/bin/bash")).unwrap();
    for network in [Network::None, Network::Tenant, Network::Own] {
        for host in ["127.0.0.1", "192.0.2.1"] {
            let script = format!("bash -c 'echo > /dev/tcp/{host}/{port}'");
            let attempt = run(&mut place, &script, network);
            let said = String::from_utf8_lossy(&tool_failed(&attempt).stderr).into_owned();
            assert!(said.contains("unreachable") || said.contains("refused"), "{network:?} {host}: {said}");
        }
    }
}

/// Two programs that want the same port at the same time, in the tenant's network: the one that does not get it is run again
/// in a network of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_thunk_whose_port_is_taken_runs_again_in_a_network_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = ggr_shim::bench::Kit::new(dir.path());
    kit.program(Path::new("/usr/bin/perl")).unwrap();
    let script = format!("exec {} \"$4\" \"$2\"", worker_program().display());
    let backend = LocalBackend::start(LocalOptions {
        command: ["/bin/sh", "-c", &script, "sh"].map(Into::into).to_vec(),
        slots: 4,
        store: dir.path().to_owned(),
        jobserver: None,
        user: None,
        bounds: None,
    });
    let backend = Arc::new(backend.unwrap());
    // Held until the file's end comes, which is the end of the sleep: both are there at once.
    let bind = "socket(S, 2, 1, 0) && bind(S, pack('S n N x8', 2, 5555, 0x7f000001)) && listen(S, 5) \
                or die \"bind: $!\\n\"; select(undef, undef, undef, 1.5); print qq(bound\\n)";
    let job = |label: &str, network| {
        let call = command(&["/usr/bin/perl", "-e", bind, label], "/work");
        let thunk = kit.thunk(call, &[], Harvest::Declared);
        let limits = Limits { network, ..Limits::default() };
        Job { id: thunk.id(), thunk: Arc::new(thunk), limits, kind: Kind::Other, label: label.to_owned() }
    };
    let both = |network| {
        let jobs = ["one", "two"].map(|label| job(label, network));
        let runs = jobs.map(|job| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.run(&job).await })
        });
        async move {
            let mut attempts = Vec::new();
            for run in runs {
                attempts.push(run.await.unwrap());
            }
            attempts
        }
    };
    for network in [Network::Tenant, Network::Own] {
        for attempt in both(network).await {
            reduced(&attempt);
        }
    }
}
