resource "scaleway_vpc" "fleet" {
  name = "fleet"
}

# Everything talks to everything in here; only vehicles come from outside, to NATS's load balancer.
resource "scaleway_vpc_private_network" "fleet" {
  name   = "fleet"
  vpc_id = scaleway_vpc.fleet.id
}
