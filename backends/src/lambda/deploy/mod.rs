//! `ggr lambda deploy`, `status` and `destroy`: functions, their role and their bucket, through the SDK.
//!
//! **Invariant:** what is there already and as it should be is not touched, so doing it again does nothing. **Invariant:** only
//! what carries ggr's tag is changed or removed. **Invariant:** each thing that was made or found is told at once; a
//! failure names all of them.

mod bucket;
mod destroy;
mod function;
mod iam;
mod package;
mod policy;
mod role;
mod status;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use aws_config::SdkConfig;

use super::aws::{self, ServiceError};
pub use destroy::Contents;
use iam::Iam;
use package::Package;
pub use package::PackageError;
pub use policy::{Policies, policies};
pub use status::{BucketStatus, FunctionStatus, RoleStatus, Status};

/// What ggr's resources carry. Its value on a function is the version of ggr that put the program there.
const TAG: &str = "ggr";
const TAG_VALUE: &str = "lambda";

/// The name of the role's one policy.
const POLICY: &str = "ggr";

/// A bucket, and where in it ggr's objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// What keys begin with; empty, or without a slash at either end.
    pub prefix: String,
}

impl Bucket {
    /// What the keys of all objects begin with.
    fn keys(&self) -> String {
        if self.prefix.is_empty() { "v1/".to_owned() } else { format!("{}/v1/", self.prefix) }
    }
}

impl FromStr for Bucket {
    type Err = ();

    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("s3://").ok_or(())?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(());
        }
        Ok(Self { name: name.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

/// What there is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the functions' names begin with; `-0`, `-1`, … follow.
    pub prefix: String,
    /// How many functions.
    pub count: usize,
    /// Memory of a function, in MB.
    pub memory_mb: u32,
    /// Size of its `/tmp`, in MB.
    pub tmp_mb: u32,
    /// Its time limit, in seconds.
    pub limit_s: u32,
    /// The ARN of a role that is there; otherwise one is made.
    pub role: Option<String>,
    /// Where objects are, if functions are to reach any.
    pub bucket: Option<Bucket>,
    /// After how many days objects are removed.
    pub expire_days: u32,
    /// This ggr's version.
    pub version: String,
}

impl Plan {
    /// The function of that number.
    fn function(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// The name of the role that is made.
    pub fn role_name(&self) -> String {
        format!("{}-role", self.prefix)
    }
}

/// Why it was not carried through, and what there is now.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The program is not fit.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A service refused.
    #[error("{why}{}", Now(.there))]
    Service {
        /// What was made or found so far.
        there: Vec<String>,
        /// Why it stopped.
        why: ServiceError,
    },
}

/// What there is now, in the words of an error.
struct Now<'a>(&'a [String]);

impl fmt::Display for Now<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => write!(f, "; nothing was made or changed"),
            there => write!(f, "; what there is now: {}", there.join(", ")),
        }
    }
}

/// Is told each thing that was done.
pub type Say<'a> = &'a mut (dyn FnMut(&str) + Send);

/// AWS, or what stands in for it.
pub struct Cloud {
    lambda: aws_sdk_lambda::Client,
    s3: aws_sdk_s3::Client,
    iam: Iam,
    region: String,
    place: String,
}

impl Cloud {
    /// Finds credentials and region by the SDK's chain; `endpoint` names another service than AWS, for all calls.
    ///
    /// # Errors
    /// If there are none.
    pub async fn connect(endpoint: Option<&str>) -> Result<Self, ServiceError> {
        let config = aws::shared_config(endpoint).await;
        aws::check(&config).await?;
        let own_names = service_endpoint(&config, "S3").is_some();
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(own_names).build();
        Ok(Self {
            lambda: aws_sdk_lambda::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            iam: Iam::new(&config),
            region: config.region().map(ToString::to_string).unwrap_or_default(),
            place: aws::place(&config),
        })
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Makes what is missing and changes what differs.
    ///
    /// # Errors
    /// Names what was made before it stopped.
    pub async fn deploy(&self, plan: &Plan, program: PathBuf, say: Say<'_>) -> Result<(), DeployError> {
        let package = Package::of(&program)?;
        let mut there = Vec::new();
        self.make(plan, &package, say, &mut there).await.map_err(|why| DeployError::Service { there, why })
    }

    async fn make(
        &self,
        plan: &Plan,
        package: &Package,
        say: Say<'_>,
        there: &mut Vec<String>,
    ) -> Result<(), ServiceError> {
        if let Some(bucket) = &plan.bucket {
            self.make_bucket(plan, bucket, say, there).await?;
        }
        let role = self.make_role(plan, say, there).await?;
        for number in 0..plan.count {
            let name = plan.function(number);
            let did = self.make_function(plan, &name, &role, package).await?;
            let what = format!("function `{name}`");
            say(&format!("{what}: {did}"));
            there.push(what);
        }
        Ok(())
    }
}

/// The address that a service is to be asked at, if it is another than AWS's own: `AWS_ENDPOINT_URL_SERVICE`, then
/// `AWS_ENDPOINT_URL`, or the profile's `endpoint_url`.
fn service_endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    use aws_types::service_config::ServiceConfigKey;
    let key = ServiceConfigKey::builder()
        .service_id(service)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let own = config.service_config().and_then(|found| found.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_and_a_prefix() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let bucket = text.parse::<Bucket>().ok();
            let found = bucket.as_ref().map(|b| (b.name.as_str(), b.keys()));
            assert_eq!(found, expected.map(|(name, keys)| (name, keys.to_owned())), "{text}");
        };
        check("s3://b", Some(("b", "v1/")));
        check("s3://b/", Some(("b", "v1/")));
        check("s3://b/x/y/", Some(("b", "x/y/v1/")));
        check("s3:///x", None);
        check("/srv", None);
    }

    #[test]
    fn a_failure_names_what_there_is() {
        let why = ServiceError::NoRegion;
        let error =
            DeployError::Service { there: vec!["bucket `b`".into(), "role `r`".into()], why: why.clone() };
        assert_eq!(error.to_string(), "no AWS region is set; what there is now: bucket `b`, role `r`");
        let error = DeployError::Service { there: vec![], why };
        assert_eq!(error.to_string(), "no AWS region is set; nothing was made or changed");
    }
}
