terraform {
  # Write-only arguments: passwords of the database stay out of the state.
  required_version = ">= 1.11"
  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = ">= 2.60"
    }
  }
}

provider "scaleway" {
  region     = var.region
  zone       = var.zone
  project_id = var.project_id
}
