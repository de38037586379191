/* classes.c - whose Ingress is it? */
#include "controlplane/translate/annotations.h"
#include "controlplane/translate/translator.h"

static const struct sb_value *own_class(struct sb_translator *t, struct unit *u)
{
    return read_object(t, u, "IngressClass", SB_STR(""), sb_str_c(t->settings->ingress_class));
}

/* The annotation where it says anything, else the field, else whether our class is the default. */
bool class_takes_ingress(struct sb_translator *t, struct unit *u, const struct sb_value *ingress)
{
    struct sb_str noted = annotation(annotations_of(ingress), "kubernetes.io/ingress.class");
    const struct sb_value *named = sb_value_at(ingress, "spec.ingressClassName");
    const struct sb_value *class;

    if (noted.len)
        return sb_str_is(noted, t->settings->ingress_class);
    if (!sb_is_nil(named))
        return sb_is(named, SB_V_STR) && sb_str_is(named->s, t->settings->ingress_class);
    class = own_class(t, u);
    return sb_str_is(
        annotation(annotations_of(class), "ingressclass.kubernetes.io/is-default-class"), "true");
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
