# For a trial: managed NATS keeps 100 MB of streams in an account and can't restrict a credential.
terraform {
  required_providers {
    scaleway = {
      source = "scaleway/scaleway"
    }
  }
}

resource "scaleway_mnq_nats_account" "fleet" {
  name = "fleet"
}

resource "scaleway_mnq_nats_credentials" "programs" {
  name       = "fleet-programs"
  account_id = scaleway_mnq_nats_account.fleet.id
}

resource "scaleway_mnq_nats_credentials" "vehicles" {
  name       = "fleet-vehicles"
  account_id = scaleway_mnq_nats_account.fleet.id
}

output "url" {
  description = "nats.url of the overlay managed-nats."
  value       = scaleway_mnq_nats_account.fleet.endpoint
}

output "programs" {
  description = "The file `creds` of the Secret `nats-managed`."
  value       = scaleway_mnq_nats_credentials.programs.file
  sensitive   = true
}

output "vehicles" {
  description = "What every vehicle of the trial logs in with."
  value       = scaleway_mnq_nats_credentials.vehicles.file
  sensitive   = true
}
