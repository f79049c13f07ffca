use super::*;

struct Run {
    workload: Workload,
    published: Published,
    accounts: Accounts,
}

impl Run {
    /// Two sockets that subscribe to products 1 and 2, of which versions 3, 5, 7, … are published.
    fn new() -> Self {
        let workload = Workload::new(2, 2, 2);
        let mut published = Published::new(2, 1);
        for version in [7, 3, 5, 9] {
            published.add(1, version, 2);
        }
        published.add(2, 4, 2);
        let accounts = Accounts::new(&workload, 1);
        Self { workload, published, accounts }
    }

    fn receive(&mut self, socket: usize, product: u32, versions: &[u64]) -> &mut Self {
        for &version in versions {
            let place = self.workload.place(socket, product);
            self.accounts.receive(socket, place, product, version);
        }
        self
    }

    fn faults(&mut self) -> Vec<String> {
        self.accounts.audit(&self.workload, &mut self.published);
        self.accounts.faults.texts()
    }
}

#[test]
fn all_in_order_is_no_fault() {
    let mut run = Run::new();
    for socket in 0..2 {
        run.receive(socket, 1, &[3, 5]).receive(socket, 2, &[4]).receive(socket, 1, &[7, 9]);
    }
    assert_eq!(run.faults(), [""; 0]);
    assert_eq!((run.published.changes, run.published.deliveries, run.accounts.received), (5, 10, 10));
}

#[test]
fn what_is_missing_is_named() {
    let mut run = Run::new();
    run.receive(0, 1, &[3, 7, 9]).receive(0, 2, &[4]).receive(1, 1, &[3]).receive(1, 2, &[4]);
    assert_eq!(
        run.faults(),
        [
            "socket 0, product 1: missing version 5; notices named 0 on this socket",
            "socket 1, product 1: missing 3 of 4 versions, all after version 3; notices named 0 on this socket",
        ]
    );
}

#[test]
fn what_was_named_is_no_fault_and_the_count_is_exact() {
    let mut run = Run::new();
    run.receive(0, 1, &[3, 9]).receive(0, 2, &[4]).receive(1, 1, &[3, 5, 7, 9]).receive(1, 2, &[4]);
    run.accounts.skip(0, 2);
    assert_eq!(run.faults(), [""; 0]);
    run.accounts.skip(1, 1);
    assert_eq!(run.faults(), ["socket 1, product 0: a notice named 1 skipped changes, but all arrived"]);
}

#[test]
fn order_repetition_and_strangers_are_faults() {
    let mut run = Run::new();
    run.receive(0, 1, &[3, 7, 5, 9]).receive(0, 2, &[4]).receive(1, 1, &[3, 5, 5, 7, 9]).receive(1, 2, &[4]);
    run.receive(1, 3, &[1]);
    let faults = run.faults();
    assert_eq!(faults[0], "socket 0, product 1: version 5 after 7");
    assert_eq!(faults[1], "socket 1, product 1: version 5 after 5");
    assert_eq!(faults[2], "socket 1, product 3: version 1, without a subscription");
    assert_eq!(faults[3], "socket 1, product 1: 5 versions, 4 were published; notices named 0 on this socket");
}

#[test]
fn a_socket_that_was_opened_again_is_held_to_what_it_saw() {
    let mut run = Run::new();
    run.receive(0, 1, &[3, 5]).receive(0, 2, &[4]).receive(1, 1, &[3, 5, 7, 9]).receive(1, 2, &[4]);
    run.accounts.reopen(0, &run.workload);
    run.receive(0, 1, &[7, 9]);
    assert_eq!(run.faults(), [""; 0]);
    run.accounts.reopen(0, &run.workload);
    run.receive(0, 1, &[3, 9]);
    assert_eq!(
        run.faults(),
        ["socket 0, product 1: missing 2 of 4 versions, some before version 9; notices named 0 on this socket"]
    );
}

#[test]
fn publishers_without_an_order_have_lanes() {
    let workload = Workload::new(1, 1, 1);
    let mut published = Published::new(1, 2);
    let mut accounts = Accounts::new(&workload, 2);
    for version in [2, 3, 4, 5] {
        published.add(1, version, 1);
    }
    for version in [3, 5, 2, 4] {
        accounts.receive(0, Some(0), 1, version);
    }
    accounts.audit(&workload, &mut published);
    assert_eq!(accounts.faults.count, 0);
}
