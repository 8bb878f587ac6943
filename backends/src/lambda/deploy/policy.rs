//! The smallest policies: what a function's role, a build and a deployment need, and no more.

use serde_json::{Value, json};

use super::Bucket;

/// Who is allowed what; each is a policy document.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Who may take the function's role: Lambda.
    pub trust: Value,
    /// What the function's role may do.
    pub function: Value,
    /// What who builds with `--backend lambda` may do.
    pub build: Value,
    /// What who deploys may do.
    pub deploy: Value,
}

/// The policies for functions `PREFIX-N`, their role and a bucket.
pub fn policies(prefix: &str, role: &str, makes_role: bool, bucket: Option<&Bucket>) -> Policies {
    let functions = format!("arn:aws:lambda:*:*:function:{prefix}-*");
    let role = if role.starts_with("arn:") { role.to_owned() } else { format!("arn:aws:iam::*:role/{role}") };
    let mut build = vec![allow(&["lambda:InvokeFunction"], &functions)];
    build.extend(bucket.into_iter().flat_map(objects));
    let mut deploy = vec![
        allow(
            &[
                "lambda:CreateFunction",
                "lambda:DeleteFunction",
                "lambda:GetFunction",
                // Without it a function is shown without its tags.
                "lambda:ListTags",
                "lambda:TagResource",
                "lambda:UpdateFunctionCode",
                "lambda:UpdateFunctionConfiguration",
            ],
            &functions,
        ),
        // It names no function, so policies cannot either.
        allow(&["lambda:ListFunctions"], "*"),
        json!({
            "Effect": "Allow", "Action": ["iam:PassRole"], "Resource": [role],
            "Condition": { "StringEquals": { "iam:PassedToService": "lambda.amazonaws.com" } },
        }),
    ];
    if makes_role {
        let actions = [
            "iam:CreateRole",
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:PutRolePolicy",
            "iam:TagRole",
        ];
        deploy.push(allow(&actions, &role));
    }
    if let Some(bucket) = bucket {
        let actions = [
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:GetBucketTagging",
            "s3:GetLifecycleConfiguration",
            "s3:ListBucket",
            "s3:PutBucketTagging",
            "s3:PutLifecycleConfiguration",
        ];
        deploy.push(allow(&actions, &format!("arn:aws:s3:::{}", bucket.name)));
        deploy.push(allow(&["s3:DeleteObject"], &format!("arn:aws:s3:::{}/*", bucket.name)));
    }
    let trust = json!({
        "Effect": "Allow", "Action": ["sts:AssumeRole"], "Principal": { "Service": "lambda.amazonaws.com" },
    });
    Policies {
        trust: document(vec![trust]),
        function: document(bucket.map(objects).unwrap_or_default()),
        build: document(build),
        deploy: document(deploy),
    }
}

/// Reading and writing objects. Without the listing S3 answers "forbidden" for an object that is gone, and ggr would not
/// know that it has to be put there again.
fn objects(bucket: &Bucket) -> Vec<Value> {
    let arn = format!("arn:aws:s3:::{}", bucket.name);
    vec![
        allow(&["s3:GetObject", "s3:PutObject"], &format!("{arn}/{}*", bucket.keys())),
        allow(&["s3:ListBucket"], &arn),
    ]
}

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": [resource] })
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_may_do_nothing_beyond_its_objects() {
        let bucket: Bucket = "s3://b/team/ggr".parse().unwrap();
        let policies = policies("ggr", "ggr-role", true, Some(&bucket));
        assert_eq!(
            policies.function["Statement"],
            json!([
                { "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/team/ggr/v1/*"] },
                { "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::b"] },
            ])
        );
        for policy in [&policies.trust, &policies.function, &policies.build, &policies.deploy] {
            let statements = policy["Statement"].as_array().unwrap();
            let actions = statements.iter().flat_map(|one| one["Action"].as_array().unwrap());
            assert!(actions.into_iter().all(|action| !action.as_str().unwrap().contains('*')), "{policy}");
        }
    }

    #[test]
    fn without_a_bucket_a_function_may_do_nothing_at_all() {
        let policies = policies("ggr", "arn:aws:iam::1:role/mine", false, None);
        assert_eq!(policies.function["Statement"], json!([]));
        assert!(!policies.deploy.to_string().contains("iam:CreateRole"));
        assert!(policies.deploy.to_string().contains("arn:aws:iam::1:role/mine"));
    }
}
