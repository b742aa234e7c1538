/** Deletes a model's files, once the reader has confirmed it. */
import { useState } from "preact/hooks";

import { t } from "../i18n";
import { Button, Dialog } from "../shell/controls";
import { remove } from "./actions";

interface Props {
  model: string;
  isBusy: boolean;
  after: (action: Promise<void>) => void;
}

export function DeleteButton({ model, isBusy, after }: Props) {
  const [isAsking, setIsAsking] = useState(false);
  const confirm = () => {
    setIsAsking(false);
    after(remove(model));
  };
  return (
    <>
      <Button
        compact
        icon="trash"
        label={t("models.delete", { model })}
        disabled={isBusy}
        onClick={() => setIsAsking(true)}
      />
      {isAsking && (
        <Dialog title={t("models.delete", { model })} onClose={() => setIsAsking(false)}>
          <p>{t("models.confirmDelete", { model })}</p>
          <div class="row">
            <Button kind="danger" icon="trash" label={t("action.delete")} onClick={confirm} />
            <Button label={t("action.cancel")} onClick={() => setIsAsking(false)} />
          </div>
        </Dialog>
      )}
    </>
  );
}
