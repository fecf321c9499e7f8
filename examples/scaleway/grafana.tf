resource "scaleway_instance_ip" "grafana" {
  type = "routed_ipv4"
}

# Grafana listens on the Instance's loopback; people come by an SSH tunnel.
resource "scaleway_instance_security_group" "grafana" {
  name                    = "grafana"
  inbound_default_policy  = "drop"
  outbound_default_policy = "accept"

  dynamic "inbound_rule" {
    for_each = var.ssh_from
    content {
      action   = "accept"
      protocol = "TCP"
      port     = 22
      ip_range = inbound_rule.value
    }
  }
}

locals {
  grafana_files = "${path.module}/../grafana"
  # Dashboards and provisioning, packed: the whole of user data is limited. What asks Prometheus is left out, as there is none.
  grafana_provisioned = {
    for file in setunion(
      fileset(local.grafana_files, "provisioning/**/fleet.yaml"),
      fileset(local.grafana_files, "dashboards/{fleet,vehicle}.json"),
    ) : file => base64gzip(file("${local.grafana_files}/${file}"))
  }
}

resource "scaleway_instance_server" "grafana" {
  name              = "grafana"
  type              = var.grafana_type
  image             = "ubuntu_noble"
  ip_id             = scaleway_instance_ip.grafana.id
  security_group_id = scaleway_instance_security_group.grafana.id

  private_network {
    pn_id = scaleway_vpc_private_network.fleet.id
  }

  user_data = {
    cloud-init = templatefile("${path.module}/grafana.yaml.tftpl", {
      files    = local.grafana_provisioned
      ca       = base64encode(scaleway_rdb_instance.fleet.certificate)
      host     = "${local.database.ip}:${local.database.port}"
      password = var.grafana_passwords.database
      admin    = var.grafana_passwords.admin
    })
  }
}
