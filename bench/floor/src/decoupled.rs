//! The floor for threads that block: one thread owns epoll and reads, others take what it has read from one queue, call
//! the application and write the answer themselves.
//!
//! Nothing is known of who blocks and nobody is watched: a request wakes one thread, which is the least a server can do
//! that reads in one thread and serves in another. A client that sends before it was answered stops everybody.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pyo3::prelude::*;
use rustix::event::epoll;

use crate::connection::{Connection, Outcome, Received};
use crate::{EVENTS_PER_WAIT, LISTENER, READ_SIZE, Service, accept_each, listen, watch};

type Client = Arc<Mutex<Connection>>;

/// Clients of which something was read.
#[derive(Default)]
struct Queue {
    clients: Mutex<VecDeque<Client>>,
    arrived: Condvar,
}

impl Queue {
    fn push(&self, client: Client) {
        lock(&self.clients).push_back(client);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Client {
        let mut clients = lock(&self.clients);
        loop {
            match clients.pop_front() {
                Some(client) => return client,
                None => {
                    clients = (self.arrived.wait(clients)).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves `application` on 127.0.0.1:`port` with so many threads until a signal ends the process. `multiprocess` says
/// that sibling processes do the same; they share the port with `SO_REUSEPORT`.
#[pyfunction]
pub(crate) fn serve_decoupled(
    application: &Bound<'_, PyAny>,
    port: u16,
    multiprocess: bool,
    threads: usize,
) -> PyResult<()> {
    let py = application.py();
    let listener = listen(port)?;
    let queue = Arc::<Queue>::default();
    for _ in 0..threads {
        let queue = Arc::clone(&queue);
        let application = application.clone().unbind();
        std::thread::spawn(move || {
            Python::attach(|py| call(&application.into_bound(py), &queue, port, multiprocess))
        });
    }
    py.detach(|| read(&listener, &queue))?;
    Ok(())
}

/// What the threads do that call the application.
fn call(
    application: &Bound<'_, PyAny>,
    queue: &Queue,
    port: u16,
    multiprocess: bool,
) -> PyResult<()> {
    let py = application.py();
    let mut service = Service::new(application.clone(), port, multiprocess, true)?;
    loop {
        let client = py.detach(|| queue.pop());
        let mut connection = lock(&client);
        match connection.serve_complete_requests(&mut service) {
            Ok(Outcome::KeepAlive) => {}
            // The reading thread notices the end and forgets the connection.
            Ok(Outcome::Close) | Err(_) => connection.shut(),
        }
    }
}

fn read(listener: &OwnedFd, queue: &Queue) -> std::io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&poll, listener, LISTENER)?;
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let mut scratch = vec![0; READ_SIZE];
    loop {
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let key = event.data.u64();
            if key == LISTENER {
                accept_each(listener, &poll, |key, socket, peer| {
                    let connection = Python::attach(|py| Connection::new(py, socket, peer, None));
                    clients.insert(key, Arc::new(Mutex::new(connection)));
                })?;
            } else if let Some(client) = clients.get(&key) {
                let received = lock(client).receive(&mut scratch);
                match received {
                    Received::Something => queue.push(Arc::clone(client)),
                    Received::Nothing => {}
                    Received::End => {
                        lock(client).forget(&poll);
                        clients.remove(&key);
                    }
                }
            }
        }
    }
}
