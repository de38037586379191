/* kinds.c - the table of kinds. A new kind is a new row: listing, watching, keeping and reading
 * from files follow from it.
 *
 * `keep` says what of an object is worth its memory: everything else (managed fields, most of
 * status, the annotation in which kubectl repeats the whole object) is dropped before it is stored.
 * A path goes through arrays: "endpoints.addresses" keeps the addresses of each endpoint.
 */
#include "controlplane/kube/objects.h"

static const char *const nothing[] = {NULL};
static const char *const ingress[] = {"spec", "status.loadBalancer", NULL};
static const char *const spec[] = {"spec", NULL};
static const char *const service[] = {
    "spec.type",           "spec.ports", "spec.externalName", "spec.clusterIP", "spec.clusterIPs",
    "status.loadBalancer", NULL,
};
static const char *const endpoint_slice[] = {
    "addressType", "ports", "endpoints.addresses", "endpoints.conditions", NULL,
};
static const char *const secret[] = {"type", "data", NULL};
static const char *const kong_ingress[] = {"upstream", NULL};
/* Of the many that a cluster has, only those that hold certificates of authorities matter. */
static const char *const config_map[] = {"data.id", "data.cert", "data.ca.crt", NULL};

const struct sb_kind sb_kinds[] = {
    {"Namespace", "", "v1", "namespaces", .keep = nothing},
    {"IngressClass", "networking.k8s.io", "v1", "ingressclasses", .keep = spec},
    {"Service", "", "v1", "services", .namespaced = true, .keep = service},
    {"EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", .namespaced = true,
     .keep = endpoint_slice},
    /* Releases of Helm and tokens of service accounts are most of a cluster's Secrets by weight,
     * and   never a certificate or a credential. */
    {"Secret", "", "v1", "secrets", .namespaced = true, .keep = secret,
     .selector = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"},
    {"ConfigMap", "", "v1", "configmaps", .namespaced = true, .keep = config_map},
    {"KongServiceFacade", "incubator.ingress-controller.konghq.com", "v1alpha1",
     "kongservicefacades", .namespaced = true, .optional = true, .keep = spec},
    {"KongUpstreamPolicy", "configuration.konghq.com", "v1beta1", "kongupstreampolicies",
     .namespaced = true, .optional = true, .keep = spec},
    {"KongIngress", "configuration.konghq.com", "v1", "kongingresses", .namespaced = true,
     .optional = true, .keep = kong_ingress},
    {"IngressClassParameters", "configuration.konghq.com", "v1alpha1", "ingressclassparameterses",
     .namespaced = true, .optional = true, .keep = spec},
    {"Ingress", "networking.k8s.io", "v1", "ingresses", .namespaced = true, .keep = ingress},
    {0},
};

struct sb_str sb_kind_api_version(struct sb_arena *a, const struct sb_kind *kind)
{
    if (!kind->group[0])
        return sb_str_c(kind->version);
    return sb_arena_printf(a, "%s/%s", kind->group, kind->version);
}

static bool version_is(const struct sb_kind *kind, struct sb_str api_version)
{
    struct sb_str group = sb_str_c(kind->group);

    if (!group.len)
        return sb_str_is(api_version, kind->version);
    return sb_str_starts(api_version, group) && api_version.len > group.len &&
           api_version.p[group.len] == '/' &&
           sb_str_is(sb_str_from(api_version, group.len + 1), kind->version);
}

const struct sb_kind *sb_kind_find(struct sb_str name, struct sb_str api_version)
{
    for (const struct sb_kind *k = sb_kinds; k->kind; k++) {
        if (sb_str_is(name, k->kind) && version_is(k, api_version))
            return k;
    }
    return NULL;
}
