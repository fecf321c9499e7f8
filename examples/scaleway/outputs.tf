module "managed_nats" {
  count  = var.managed_nats ? 1 : 0
  source = "./managed-nats"
}

output "overlay" {
  description = "Which overlay of ../kubernetes fits."
  value       = var.managed_nats ? "managed-nats" : "small"
}

output "image" {
  description = "Where the image goes, and `newName` of fleet-worker in the overlay."
  value       = "${scaleway_registry_namespace.fleet.endpoint}/fleet-worker"
}

output "kubeconfig" {
  value     = scaleway_k8s_cluster.fleet.kubeconfig[0].config_file
  sensitive = true
}

output "database_secret" {
  description = "The secret with `url` of the Secret `fleet-database`."
  value       = scaleway_secret.database_url.id
}

output "database_host" {
  value = "${local.database.ip}:${local.database.port}"
}

output "database_ca" {
  description = "`ca.pem` of the Secret `fleet-database`."
  value       = scaleway_rdb_instance.fleet.certificate
}

output "grafana" {
  description = "An SSH tunnel to Grafana; then it is at http://127.0.0.1:3000."
  value       = "ssh -N -L 3000:127.0.0.1:3000 root@${scaleway_instance_ip.grafana.address}"
}

output "nats_url" {
  description = "Only with managed NATS: nats.url of the overlay."
  value       = var.managed_nats ? module.managed_nats[0].url : null
}

output "nats_creds" {
  description = "Only with managed NATS: `creds` of the Secret `nats-managed`."
  value       = var.managed_nats ? module.managed_nats[0].programs : null
  sensitive   = true
}
