//! Why an appliance ends that has come up: somebody asks the process to, or it is to start anew.

use async_channel::Receiver;
use async_signal::{Signal, Signals};
use futures_lite::{StreamExt, future};

use super::{Appliance, StartError};

/// Why an appliance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a signal, or the power switch: it stays off.
    Off,
    /// The firmware is to be started again.
    Restart,
    /// The machine is to be: what was asked for begins with its next start (a factory reset).
    Reboot,
}

/// Receives once when the process is asked to end: INT or TERM. Signals in `meaningless` are taken, and do nothing.
pub fn stop_signal(meaningless: &[Signal]) -> Result<Receiver<()>, StartError> {
    let ends = [Signal::Int, Signal::Term];
    let mut signals = Signals::new(ends.iter().chain(meaningless).copied())?;
    let (sender, receiver) = async_channel::bounded(1);
    smol::spawn(async move {
        while let Some(signal) = signals.next().await {
            if signal.is_ok_and(|signal| ends.contains(&signal)) {
                sender.send(()).await.ok();
                return;
            }
        }
    })
    .detach();
    Ok(receiver)
}

impl Appliance {
    /// Waits for the end.
    pub async fn until_end(&self, stop: &Receiver<()>) -> Ending {
        let signal = async {
            stop.recv().await.ok();
            Ending::Off
        };
        let restart = async {
            self.app.updater.restart_wanted().recv().await.ok();
            Ending::Restart
        };
        let reboot = async {
            self.app.local.restart_wanted().recv().await.ok();
            Ending::Reboot
        };
        future::or(signal, future::or(restart, reboot)).await
    }

    /// Waits until somebody has set the appliance up (`None`), or for the end.
    pub async fn until_set_up_or_end(&self, stop: &Receiver<()>) -> Option<Ending> {
        let end = async { Some(self.until_end(stop).await) };
        let done = async {
            self.until_set_up().await;
            None
        };
        future::or(end, done).await
    }
}
