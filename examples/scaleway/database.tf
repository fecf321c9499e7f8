resource "scaleway_rdb_instance" "fleet" {
  name                = "fleet"
  engine              = "PostgreSQL-16"
  node_type           = var.database.type
  is_ha_cluster       = var.database.ha
  volume_type         = "sbs_5k"
  volume_size_in_gb   = var.database.volume_gb
  encryption_at_rest  = true
  disable_backup      = false
  backup_same_region  = false
  user_name           = "admin"
  password_wo         = var.passwords.admin
  password_wo_version = var.passwords_version

  # No public endpoint.
  private_network {
    pn_id       = scaleway_vpc_private_network.fleet.id
    enable_ipam = true
  }
}

resource "scaleway_rdb_database" "fleet" {
  instance_id = scaleway_rdb_instance.fleet.id
  name        = "fleet"
}

# Rights are given by admin.sql and fleet.sql, not by scaleway_rdb_privilege, which drifts.
resource "scaleway_rdb_user" "fleet" {
  instance_id         = scaleway_rdb_instance.fleet.id
  name                = "fleet"
  password_wo         = var.passwords.fleet
  password_wo_version = var.passwords_version
  is_admin            = false
}

resource "scaleway_rdb_user" "grafana" {
  instance_id = scaleway_rdb_instance.fleet.id
  name        = "grafana"
  password    = var.grafana_passwords.database
  is_admin    = false
}

locals {
  database = scaleway_rdb_instance.fleet.private_network[0]
}

# What the Secret `fleet-database` of the manifests is made from.
resource "scaleway_secret" "database_url" {
  name        = "fleet-database-url"
  description = "sink.timescale.url of workers and setup"
}

resource "scaleway_secret_version" "database_url" {
  secret_id       = scaleway_secret.database_url.id
  data_wo         = "postgres://fleet:${urlencode(var.passwords.fleet)}@${local.database.ip}:${local.database.port}/fleet?sslmode=require"
  data_wo_version = var.passwords_version
}
