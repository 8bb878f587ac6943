//! `ggr`: runs an unmodified build as content-addressed thunks.
mod coordinator;
mod hidden;
mod intercept;
mod run;

fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = hidden::dispatch(&args) {
        return code.into();
    }
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    rt.block_on(async move {
        let w = run::Workshop::open().await.unwrap();
        let dir = w.repo.run_dir().join(ggr_ir::repo::unique_name());
        std::fs::create_dir(&dir).unwrap();
        let i = coordinator::Interception { dir, tools: w.session.models().tool_files(&[]), watch: true };
        let end = coordinator::run(&w.session, &args, &i).await;
        eprintln!("{:?}", w.session.counts.tally());
        match end {
            Ok(coordinator::BuildEnd::Exited(code)) => code.into(),
            Ok(coordinator::BuildEnd::Interrupted(s)) => (128 + s as u8).into(),
            Err(e) => { eprintln!("{e}"); 125.into() }
        }
    })
}
