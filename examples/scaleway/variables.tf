variable "project_id" {
  description = "The project that everything belongs to."
  type        = string
}

variable "region" {
  description = "An EU region."
  type        = string
  default     = "fr-par"
}

variable "zone" {
  description = "The zone of nodes and of Grafana."
  type        = string
  default     = "fr-par-1"
}

variable "kubernetes_version" {
  description = "Minor version; patches come by themselves."
  type        = string
  default     = "1.36"
}

variable "program_nodes" {
  description = "Type and number of the nodes of workers, discovery and KEDA."
  type        = object({ type = string, min = number, max = number })
  default     = { type = "PRO2-XXS", min = 1, max = 3 }
}

variable "nats_nodes" {
  description = "Type of the nodes of NATS; there are three, or none with managed NATS."
  type        = string
  default     = "PRO2-XS"
}

variable "database" {
  description = "Type, volume and availability of the PostgreSQL instance."
  type        = object({ type = string, volume_gb = number, ha = bool })
  default     = { type = "DB-PRO2-XXS", volume_gb = 100, ha = false }
}

variable "passwords" {
  description = "Of the database's administrator and of the workers' role. They are not kept in the state."
  type        = object({ admin = string, fleet = string })
  ephemeral   = true
}

variable "passwords_version" {
  description = "Raise it when the passwords above change."
  type        = number
  default     = 1
}

variable "grafana_type" {
  description = "Type of Grafana's Instance."
  type        = string
  default     = "PLAY2-PICO"
}

variable "grafana_passwords" {
  description = "Of its database role and of its administrator. cloud-init needs them, so that they are in the state."
  type        = object({ database = string, admin = string })
  sensitive   = true
}

variable "ssh_from" {
  description = "Networks from which people reach Grafana's Instance by SSH."
  type        = list(string)
}

variable "managed_nats" {
  description = "Managed NATS instead of three servers of our own: for a trial, see README.md."
  type        = bool
  default     = false
}
