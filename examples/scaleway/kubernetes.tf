resource "scaleway_k8s_cluster" "fleet" {
  name                        = "fleet"
  version                     = var.kubernetes_version
  cni                         = "cilium"
  private_network_id          = scaleway_vpc_private_network.fleet.id
  delete_additional_resources = false

  auto_upgrade {
    enable                        = true
    maintenance_window_day        = "sunday"
    maintenance_window_start_hour = 3
  }

  autoscaler_config {
    # Moving pods moves vehicles.
    scale_down_delay_after_add = "20m"
    scale_down_unneeded_time   = "20m"
    # Longer than NATS's own lame-duck time.
    max_graceful_termination_sec = 600
  }
}

resource "scaleway_k8s_pool" "programs" {
  cluster_id  = scaleway_k8s_cluster.fleet.id
  name        = "programs"
  node_type   = var.program_nodes.type
  size        = var.program_nodes.min
  min_size    = var.program_nodes.min
  max_size    = var.program_nodes.max
  autoscaling = true
  autohealing = true

  upgrade_policy {
    max_surge       = 1
    max_unavailable = 0
  }
}

resource "scaleway_k8s_pool" "nats" {
  count       = var.managed_nats ? 0 : 1
  cluster_id  = scaleway_k8s_cluster.fleet.id
  name        = "nats"
  node_type   = var.nats_nodes
  size        = 3
  autohealing = true

  # One after the other: two of three servers keep the streams going.
  upgrade_policy {
    max_surge       = 0
    max_unavailable = 1
  }
}

resource "scaleway_registry_namespace" "fleet" {
  name      = "fleet-${substr(var.project_id, 0, 8)}"
  is_public = false
}
