/* classes.c - whose Ingress is it? */
#include "controlplane/translate/classes.h"

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/translator.h"

static const struct sb_value *own_class(struct sb_translator *t, struct unit *u)
{
    return read_object(t, u, "IngressClass", SB_STR(""), sb_str_c(t->settings->ingress_class));
}

enum sb_class sb_class_of(const struct sb_value *ingress, const char *ours)
{
    struct sb_str noted = annotation(annotations_of(ingress), "kubernetes.io/ingress.class");
    const struct sb_value *named = sb_value_at(ingress, "spec.ingressClassName");

    if (noted.len)
        return sb_str_is(noted, ours) ? SB_CLASS_OURS : SB_CLASS_OTHER;
    if (sb_is_nil(named))
        return SB_CLASS_UNNAMED;
    return sb_is(named, SB_V_STR) && sb_str_is(named->s, ours) ? SB_CLASS_OURS : SB_CLASS_OTHER;
}

bool sb_class_is_default(const struct sb_value *class)
{
    return sb_str_is(
        annotation(annotations_of(class), "ingressclass.kubernetes.io/is-default-class"), "true");
}

/* Our IngressClass is read, and so noted, only where it decides. */
bool class_takes_ingress(struct sb_translator *t, struct unit *u, const struct sb_value *ingress)
{
    enum sb_class of = sb_class_of(ingress, t->settings->ingress_class);

    return of == SB_CLASS_OURS || (of == SB_CLASS_UNNAMED && sb_class_is_default(own_class(t, u)));
}

struct class_parameters class_parameters(struct sb_translator *t, struct unit *u)
{
    const struct sb_value *ref = sb_value_at(own_class(t, u), "spec.parameters"), *object;
    struct class_parameters none = {0};

    if (!sb_str_is(sb_value_str_at(ref, "apiGroup"), "configuration.konghq.com") ||
        !sb_str_is(sb_value_str_at(ref, "kind"), "IngressClassParameters") ||
        sb_is_nil(sb_get(ref, "scope")) || sb_is_nil(sb_get(ref, "namespace")))
        return none;
    object = read_object(t, u, "IngressClassParameters", sb_value_str_at(ref, "namespace"),
                         sb_value_str_at(ref, "name"));
    return (struct class_parameters){
        .service_upstream = sb_value_bool_at(object, "spec.serviceUpstream", false),
        .legacy_regex_detection =
            sb_value_bool_at(object, "spec.enableLegacyRegexDetection", false),
    };
}
