"""Lets a user of moto's S3 in: from then on moto asks everyone for good keys. Prints the user's keys."""

import json
import sys

import boto3


def client(service, key, secret):
    return boto3.client(
        service,
        endpoint_url=sys.argv[1],
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


iam = client("iam", "nobody", "nothing")
iam.create_user(UserName="worker")
allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
iam.put_user_policy(UserName="worker", PolicyName="archive", PolicyDocument=policy)
key = iam.create_access_key(UserName="worker")["AccessKey"]
client("s3", key["AccessKeyId"], key["SecretAccessKey"]).create_bucket(Bucket="archive")
print(key["AccessKeyId"], key["SecretAccessKey"])
