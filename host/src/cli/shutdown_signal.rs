//! When a command that goes on and on is to end: at SIGTERM, or Ctrl-C.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell gives for a process that Ctrl-C has ended.
pub const INTERRUPTED: u8 = 130;

/// Knows whether somebody wants this process to end.
pub struct ShutdownSignal {
    told: watch::Receiver<bool>,
}

impl ShutdownSignal {
    /// Listens from now on, so that it comes first: whoever asks while the process still starts is heard. In a script's background a shell
    /// has SIGINT ignored, so that one which came before this would be lost.
    ///
    /// The first signal is a wish: what is under way is brought to its end. A second Ctrl-C ends the process where it stands, at no loss:
    /// what is not acknowledged comes again. Must be called within a runtime.
    pub fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be awaited")?;
        let (tell, told) = watch::channel(false);
        tidegate_telemetry::spawn("signals", async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
                    _ = interrupt.recv() => {
                        if *tell.borrow() {
                            eprintln!("tidegate: ended at once; what was not acknowledged comes again");
                            std::process::exit(INTERRUPTED.into());
                        }
                        tracing::info!("Ctrl-C: shutting down; once more ends at once");
                    }
                }
                tell.send_replace(true);
            }
        });
        Ok(Self { told })
    }

    /// Whether it is time.
    pub fn is_told(&self) -> bool {
        *self.told.borrow()
    }

    /// Resolves when it is time.
    pub async fn told(&mut self) {
        // The task that tells lives as long as the runtime.
        let _ = self.told.wait_for(|told| *told).await;
    }
}
