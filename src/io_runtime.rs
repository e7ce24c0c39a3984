//! The runtime that the connections which read live on.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// What still goes on there when this is dropped is given up: to wait for its end, as a runtime that is dropped
/// does, is forbidden within another one.
pub struct IoRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl IoRuntime {
    /// # Errors
    /// Where the system gives it no thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
