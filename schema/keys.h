/* keys.h - checks of certificates and keys, on OpenSSL. */
#ifndef SB_SCHEMA_KEYS_H
#define SB_SCHEMA_KEYS_H

#include <openssl/evp.h>

#include "schema/entity.h"

/* The public key of a PEM text: "PUBLIC KEY", "RSA PUBLIC KEY", or a private key that is not
 * encrypted. NULL: there is none. The caller's, with EVP_PKEY_free(). */
EVP_PKEY *sb_pem_key(struct sb_str pem);

/* Entity checks of certificates, ca_certificates and keys. */
void sb_check_certificate_pairs(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors);
void sb_check_alternative_pairs(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors);
void sb_check_alternative_types(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors);
void sb_check_ca(struct sb_schema_ctx *ctx, const struct sb_value *entity, struct sb_value *errors);
void sb_check_jwk(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                  struct sb_value *errors);
/* The record keys.pem. */
sb_validator sb_check_pem;

/* Transformations. */
void sb_digest_ca(struct sb_schema_ctx *ctx, struct sb_value *entity);
void sb_hash_basic_password(struct sb_schema_ctx *ctx, struct sb_value *entity);
void sb_hash_oauth2_secret(struct sb_schema_ctx *ctx, struct sb_value *entity);

#endif
